"""Two tables compared, row by row or as multisets of rows: what `csv` and `sql_result` share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

Cell = None | int | float | Decimal | str | bytes
Row = Sequence[Cell]
MOST_UNSETTLED = 300
"""Rows up to which the best pairing is searched: of the whole table, else of those without an exact partner; beyond it
they are paired in sorted order."""


def same_cell(a: Cell, b: Cell, tolerance: float) -> bool:
    """Numbers by value, within a relative and absolute tolerance if there is one; everything else by type and value.

    Two whole numbers are counts or names, and a tolerance is for what is measured or worked out: they must be equal.
    """
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    if isinstance(a, (int, float, Decimal)) and isinstance(b, (int, float, Decimal)):
        return a == b or (tolerance > 0 and math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance))
    return type(a) is type(b) and a == b


def same_row(a: Row, b: Row, tolerance: float) -> bool:
    """Whether two rows have the same cells in the same order."""
    return len(a) == len(b) and all(same_cell(x, y, tolerance) for x, y in zip(a, b, strict=True))


def _order(row: Row) -> list[tuple[int, float, str]]:
    def place(cell: Cell) -> tuple[int, float, str]:
        if cell is None:
            return (0, 0.0, "")
        if isinstance(cell, (int, float, Decimal)):
            return (1, float(cell), "")
        return (2, 0.0, cell) if isinstance(cell, str) else (3, 0.0, cell.hex())

    return [place(cell) for cell in row]


def _can_pair(expected: Sequence[Row], given: Sequence[Row], tolerance: float) -> bool:
    """Whether every expected row gets a given row of its own (augmenting paths)."""
    partner: dict[int, int] = {}
    fits = [[j for j, other in enumerate(given) if same_row(row, other, tolerance)] for row in expected]

    def place(i: int, tried: set[int]) -> bool:
        for j in fits[i]:
            if j not in tried:
                tried.add(j)
                if j not in partner or place(partner[j], tried):
                    partner[j] = i
                    return True
        return False

    return all(place(i, set()) for i in range(len(expected)))


def unmatched(expected: Sequence[Row], given: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """What is left of both when rows that are exactly the same are taken away in pairs; 1 and 1.0 are the same."""
    spare = Counter(map(tuple, given))
    left: list[Row] = []
    for row in map(tuple, expected):
        if spare[row] > 0:
            spare[row] -= 1
        else:
            left.append(row)
    return left, list(spare.elements())


def table_fault(expected: Sequence[Row], given: Sequence[Row], *, ordered: bool, tolerance: float = 0.0) -> str:
    """What keeps two tables from being the same, in a sentence; "" when they are.

    ordered: compare row by row, else as multisets. tolerance: relative and absolute, for numbers.
    """
    if len(expected) != len(given):
        return f"{len(given)} rows; expected {len(expected)}"
    if expected and len(expected[0]) != len(given[0]):
        return f"{len(given[0])} columns; expected {len(expected[0])}"
    if ordered:
        pairs = enumerate(zip(expected, given, strict=True), start=1)
        wrong = next((i for i, (a, b) in pairs if not same_row(a, b, tolerance)), None)
        return "" if wrong is None else f"row {wrong} is {_shown(given[wrong - 1])}"
    left, spare = unmatched(expected, given)
    if not left:
        return ""
    if tolerance > 0:
        left, spare = sorted(left, key=_order), sorted(spare, key=_order)
        if all(same_row(a, b, tolerance) for a, b in zip(left, spare, strict=True)):
            return ""
        # a row that is exactly another's may still be the only one near enough for a third: all of them are paired anew
        everything = len(expected) <= MOST_UNSETTLED
        if everything and _can_pair(expected, given, tolerance):
            return ""
        if not everything and len(left) <= MOST_UNSETTLED and _can_pair(left, spare, tolerance):
            return ""
    return f"{len(left)} rows are not among the expected ones, one is {_shown(spare[0])}"


def _shown(row: Row) -> str:
    cells = ", ".join(str(cell) if isinstance(cell, (int, float, Decimal)) else repr(cell)[:60] for cell in row[:8])
    return f"({cells}{', …' if len(row) > 8 else ''})"[:240]
