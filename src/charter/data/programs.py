"""`programs:tiny`: one-line programming tasks with tests, made by a program.

    "Write a Python function f(x) that returns x plus 7." + its first two lines + ["assert f(3) == 10", …] + a solution

Three levels: 1, one operation; 2, one idiom; 3, two steps. Everything about a row is a function of (seed, index).

*Not here*: running the tests, `charter.reward.code`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from charter.errors import DataError

LEVELS = (1, 2, 3)
_LARGEST_DRAW = 100
"""Draws of inputs before a task counts as one that a constant or its own argument solves."""
_FUNCTIONS = ("f", "g", "h", "func", "solve", "compute", "task", "run", "apply", "work")
_WORD_LIST = """
    apple banana cherry lemon orange river stone cloud forest meadow silver copper winter summer garden window
    table candle bridge castle rocket planet signal hammer button mirror pillow carpet ladder engine
"""
_WORDS = tuple(_WORD_LIST.split())
_LETTERS = "aeinorst"


class Dice:
    """Numbers drawn by counting: the same for the same key on every machine and version."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.count = 0

    def below(self, limit: int) -> int:
        """A whole number from 0 to limit - 1."""
        digest = hashlib.blake2b(f"{self.key}:{self.count}".encode(), digest_size=16).digest()
        self.count += 1
        # 128 random bits: no number is favoured by more than 1 part in 10^36
        return int.from_bytes(digest, "big") % limit

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + self.below(high - low + 1)

    def word(self) -> str:
        """A word of lower-case letters."""
        return _WORDS[self.below(len(_WORDS))]

    def numbers(self) -> list[int]:
        """Three to six whole numbers."""
        return [self.between(-9, 20) for _ in range(self.between(3, 6))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of task.

    name: unique. level: 1 to 3. arguments: names of the function's arguments; x and y are whole numbers, s is a text,
    xs a list of whole numbers. says, source: the task in words and the expression that solves it, with {a} and {b} for
    its two constants (drawn from `constants`, both ends included). value: what the expression gives.
    """

    name: str
    level: int
    arguments: str
    says: str
    source: str
    value: Callable[..., Any]
    constants: tuple[int, int] = (2, 30)


def _family(
    name: str, level: int, arguments: str, says: str, source: str, value: Callable[..., Any],
    constants: tuple[int, int] = (2, 30),
) -> Family:  # fmt: skip
    return Family(
        name=name, level=level, arguments=arguments, says=says, source=source, value=value, constants=constants
    )


FAMILIES: tuple[Family, ...] = (
    _family("add", 1, "x", "x plus {a}", "x + {a}", lambda a, b, x: x + a),
    _family("subtract", 1, "x", "x minus {a}", "x - {a}", lambda a, b, x: x - a),
    _family("multiply", 1, "x", "x times {a}", "x * {a}", lambda a, b, x: x * a),
    _family("remainder", 1, "x", "the remainder of x divided by {a}", "x % {a}", lambda a, b, x: x % a, (3, 12)),
    _family("sum_of_two", 1, "x, y", "the sum of x and y", "x + y", lambda a, b, x, y: x + y),
    _family("product_of_two", 1, "x, y", "the product of x and y", "x * y", lambda a, b, x, y: x * y),
    _family("length", 1, "s", "the length of the string s", "len(s)", lambda a, b, s: len(s)),
    _family("largest", 1, "xs", "the largest number in the list xs", "max(xs)", lambda a, b, xs: max(xs)),
    _family("total", 1, "xs", "the sum of the numbers in the list xs", "sum(xs)", lambda a, b, xs: sum(xs)),
    _family("upper", 2, "s", "the string s in upper case", "s.upper()", lambda a, b, s: s.upper()),
    _family("reverse", 2, "s", "the string s reversed", "s[::-1]", lambda a, b, s: s[::-1]),
    _family("repeat", 2, "s", "the string s repeated {a} times", "s * {a}", lambda a, b, s: s * a, (2, 9)),
    _family("prefix", 2, "s", "the first {a} characters of s", "s[:{a}]", lambda a, b, s: s[:a], (1, 4)),
    _family("divisible", 2, "x", "True if x is divisible by {a}, else False", "x % {a} == 0",
            lambda a, b, x: x % a == 0, (2, 5)),
    _family("above", 2, "x", "True if x is greater than {a}, else False", "x > {a}", lambda a, b, x: x > a),
    _family("square_plus", 2, "x", "the square of x plus {a}", "x ** 2 + {a}", lambda a, b, x: x**2 + a),
    _family("last", 2, "xs", "the last element of the list xs", "xs[-1]", lambda a, b, xs: xs[-1]),
    _family("sorted", 2, "xs", "the list xs in ascending order", "sorted(xs)", lambda a, b, xs: sorted(xs)),
    _family("linear", 3, "x", "{a} times x plus {b}", "{a} * x + {b}", lambda a, b, x: a * x + b),
    _family("distance", 3, "x, y", "the absolute difference of x and y, plus {a}", "abs(x - y) + {a}",
            lambda a, b, x, y: abs(x - y) + a),
    _family("shift", 3, "xs", "a list with {a} added to every number of xs", "[n + {a} for n in xs]",
            lambda a, b, xs: [n + a for n in xs]),
    _family("keep_above", 3, "xs", "a list of the numbers in xs that are greater than {a}",
            "[n for n in xs if n > {a}]", lambda a, b, xs: [n for n in xs if n > a], (1, 9)),
    _family("count_above", 3, "xs", "how many numbers in xs are greater than {a}", "sum(n > {a} for n in xs)",
            lambda a, b, xs: sum(n > a for n in xs), (1, 9)),
    _family("spread", 3, "xs", "the largest number in xs minus the smallest, times {a}",
            "(max(xs) - min(xs)) * {a}", lambda a, b, xs: (max(xs) - min(xs)) * a),
    _family("join_upper", 3, "s", "the string s in upper case, repeated {a} times", "s.upper() * {a}",
            lambda a, b, s: s.upper() * a, (2, 9)),
    _family("length_times", 3, "s", "the length of the string s times {a}", "len(s) * {a}",
            lambda a, b, s: len(s) * a),
)  # fmt: skip
"""Every kind of task."""
_BY_NAME = {family.name: family for family in FAMILIES}


def tiny_programs(options: Mapping[str, Any], seed: int) -> Callable[[int], dict[str, Any]]:
    """The rows of `programs:tiny`.

    options: levels (list, default [1, 2]), families (names; default: all of the levels), tests (asserts per row,
        default 6).
    Returns: index → {"question", "stub" (the function without its body), "entry_point", "tests", "solution", "task",
        "level"}.
    Raises: DataError for an option that is unknown or out of range.
    """
    families, tests = _settings(options)

    def draw(index: int) -> dict[str, Any]:
        dice = Dice(f"programs:tiny:{seed}:{index}")
        family = families[dice.below(len(families))]
        return _row(family, dice, tests)

    return draw


def _settings(options: Mapping[str, Any]) -> tuple[tuple[Family, ...], int]:
    for name in options:
        if name not in ("levels", "families", "tests"):
            raise DataError(f"programs:tiny has no option {name!r}. It has levels, families and tests")
    levels = options.get("levels", [1, 2])
    if not isinstance(levels, list) or not levels or any(isinstance(n, bool) or n not in LEVELS for n in levels):
        raise DataError(f"programs:tiny: levels = {levels!r}, expected a list of 1, 2 and 3")
    names = options.get("families", [f.name for f in FAMILIES if f.level in levels])
    unknown = [n for n in names if n not in _BY_NAME] if isinstance(names, list) else [names]
    if unknown or not names:
        raise DataError(f"programs:tiny: families = {names!r}, expected a list of {', '.join(_BY_NAME)}")
    tests = options.get("tests", 6)
    if isinstance(tests, bool) or not isinstance(tests, int) or not 3 <= tests <= 50:
        raise DataError(f"programs:tiny: tests = {tests!r}, expected a whole number from 3 to 50")
    return tuple(_BY_NAME[name] for name in names), tests


def _row(family: Family, dice: Dice, tests: int) -> dict[str, Any]:
    name = _FUNCTIONS[dice.below(len(_FUNCTIONS))]
    a, b = (dice.between(*family.constants) for _ in range(2))
    asserts = _asserts(family, dice, tests, name, a, b)
    return {
        "question": f"Write a Python function {name}({family.arguments}) that returns {family.says.format(a=a, b=b)}.",
        "stub": f'def {name}({family.arguments}):\n    """Return {family.says.format(a=a, b=b)}."""\n',
        "entry_point": name,
        "tests": asserts,
        "solution": f"def {name}({family.arguments}):\n    return {family.source.format(a=a, b=b)}\n",
        "task": family.name,
        "level": family.level,
    }


def _asserts(family: Family, dice: Dice, tests: int, name: str, a: int, b: int) -> list[str]:
    """Different inputs whose values tell the task from a constant and from each of its arguments."""
    for _ in range(_LARGEST_DRAW):
        cases = [_inputs(family, dice) for _ in range(tests)]
        values = [family.value(a, b, *case) for case in cases]
        texts = [repr(case) for case in cases]
        arguments_fail = all(
            any(case[i] != value for case, value in zip(cases, values, strict=True)) for i in range(len(cases[0]))
        )
        if len(set(texts)) == tests and len({repr(v) for v in values}) > 1 and arguments_fail:
            calls = [f"{name}({', '.join(map(repr, case))})" for case in cases]
            return [f"assert {call} == {value!r}" for call, value in zip(calls, values, strict=True)]
    raise DataError(
        f"programs:tiny: no {tests} telling inputs were found for the task {family.name}. Ask for fewer tests"
    )


def _inputs(family: Family, dice: Dice) -> tuple[Any, ...]:
    made: list[Any] = []
    for name in family.arguments.split(", "):
        if name == "xs":
            made.append(dice.numbers())
        elif name == "s":
            made.append(dice.word() + _LETTERS[dice.below(len(_LETTERS))])
        else:
            made.append(dice.between(-20, 60))
    return tuple(made)
