"""The table of answers (math_table.toml): every row against `math`, and against plain math-verify."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from charter.reward.math_answer import verdict

TABLE = tomllib.loads((Path(__file__).parent / "math_table.toml").read_text("utf-8"))
ROWS = [(kind, *row) for kind, rows in TABLE.items() for row in rows]
DIFFERENCES = 67
"""Rows in which plain math-verify answers otherwise than the mathematics (and this reward)."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logger = logging.getLogger("math_verify")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns that its time limits are off
    yield
    logger.setLevel(level)


def test_the_table_is_sound() -> None:
    assert len(ROWS) >= 200
    assert {(type(row[3]), type(row[4])) for row in ROWS} == {(int, int)}
    assert {row[3] for row in ROWS} | {row[4] for row in ROWS} == {0, 1}
    assert all(len(row) == 6 and len(row[5].strip()) > 2 for row in ROWS)
    pairs = [(row[1], row[2]) for row in ROWS]
    assert len(set(pairs)) == len(pairs)
    for kind, rows in TABLE.items():  # every kind has something to accept and something to refuse
        assert {row[2] for row in rows} == {0, 1}, kind


@pytest.mark.parametrize("kind", TABLE)
def test_every_row_is_judged_as_the_mathematics_says(kind: str) -> None:
    wrong = []
    for gold, text, expected, _, reason in TABLE[kind]:
        found = verdict(gold, text)
        if found.get("value") != expected:
            wrong.append((gold, text, f"expected {expected}: {reason}", found))
    assert wrong == []


def plain_math_verify(gold: str, text: str) -> int:
    """What the library answers by itself, with its time limits off."""
    from math_verify import parse, verify

    wrapped = gold if "$" in gold.replace("\\$", "") or "\\boxed" in gold else f"${gold}$"
    wanted, given = parse(wrapped, parsing_timeout=None), parse(text, parsing_timeout=None)  # pyright: ignore[reportArgumentType]
    return int(verify(wanted, given, timeout_seconds=None))


@pytest.mark.parametrize("kind", TABLE)
def test_what_plain_math_verify_answers_is_recorded(kind: str) -> None:
    other = [(g, t, m) for g, t, _, m, _ in TABLE[kind] if plain_math_verify(g, t) != m]
    assert other == []


def test_the_differences_from_math_verify_are_the_recorded_ones() -> None:
    judged = {(gold, text): verdict(gold, text).get("value") for _, gold, text, _, _, _ in ROWS}
    differing = {(gold, text) for _, gold, text, _, library, _ in ROWS if judged[gold, text] != library}
    documented = {(gold, text) for _, gold, text, expected, library, _ in ROWS if expected != library}
    assert differing == documented
    assert len(documented) == DIFFERENCES


def test_no_row_is_right_by_the_reference_being_anything() -> None:
    """The same completions against a reference that none of them states."""
    assert [t for _, _, t, _, _, _ in ROWS if verdict("987654321", t)["value"] == 1.0] == []


@pytest.mark.parametrize("kind", TABLE)
def test_a_reference_meets_itself(kind: str) -> None:
    for gold in {row[0] for row in TABLE[kind]}:
        assert verdict(gold, f"So it is \\boxed{{{gold}}}.") == {"value": 1.0, "note": ""}, gold
