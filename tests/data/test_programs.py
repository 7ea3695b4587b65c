"""Tiny programming tasks: solved by their solutions, by nothing simpler, and the same for the same seed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.data import load_prompts
from charter.data.programs import FAMILIES, Dice
from charter.errors import DataError
from charter.recipe import DataTable


def rows(seed: int = 0, size: int = 300, **options: Any) -> list[dict[str, Any]]:
    table = DataTable(prompts="programs:tiny", template="{question}", size=size, held_out=0, options=options)
    return [dict(prompt.fields) for prompt in load_prompts(table, seed).train.items]


def passes(program: str, row: dict[str, Any]) -> bool:
    """Run a program of this file, which is trusted, with its row's asserts."""
    try:
        exec(program + "\n".join(row["tests"]), {})
    except Exception:  # noqa: BLE001 - any failure is a failure
        return False
    return True


def test_solutions_pass_and_what_is_simpler_does_not() -> None:
    for row in rows(levels=[1, 2, 3], size=400):
        assert passes(row["solution"], row), row
        head = row["solution"].split("\n")[0] + "\n    return "
        arguments = head[head.index("(") + 1 : head.index(")")].split(", ")
        # a constant answer would have to be one of the expected values
        constants = {test.split(" == ", 1)[1] for test in row["tests"]}
        for simple in (*arguments, *constants, "None"):
            assert not passes(f"{head}{simple}\n", row), (row, simple)


def test_every_family_is_drawn_and_its_source_is_its_value() -> None:
    for family in FAMILIES:
        (row,) = rows(levels=[1, 2, 3], size=1, families=[family.name])
        assert row["task"] == family.name
        assert row["level"] == family.level
        # six different inputs, and values computed by the family's own function, not by its source
        assert len(set(row["tests"])) == 6
        assert passes(row["solution"], row)


def test_the_row_speaks_of_one_function() -> None:
    for row in rows(size=50):
        name = row["entry_point"]
        assert row["question"].startswith(f"Write a Python function {name}(")
        assert row["stub"].startswith(f"def {name}(")
        assert all(test.startswith(f"assert {name}(") for test in row["tests"])
        # the first two lines of the function, ready to be gone on from
        assert passes(row["stub"] + row["solution"].split("\n", 1)[1], row)
        assert set(row) == {"question", "stub", "entry_point", "tests", "solution", "task", "level"}


def test_levels_and_counts_are_as_asked() -> None:
    assert {row["level"] for row in rows(size=100)} == {1, 2}
    assert {row["level"] for row in rows(size=100, levels=[3])} == {3}
    assert {len(row["tests"]) for row in rows(size=20, tests=9)} == {9}
    assert {row["task"] for row in rows(size=20, families=["add", "prefix"])} == {"add", "prefix"}


@given(st.integers(0, 50), st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_seeds_decide(one: int, other: int) -> None:
    assert (rows(one, 20) == rows(other, 20)) is (one == other)


def test_questions_are_all_different_and_the_held_out_ones_are_kept_apart() -> None:
    table = DataTable(prompts="programs:tiny", template="{stub}", size=300, held_out=40)
    loaded = load_prompts(table, 0)
    train = {prompt.messages[0]["content"] for prompt in loaded.train.items}
    held_out = {prompt.messages[0]["content"] for prompt in loaded.held_out}
    assert (len(train), len(held_out)) == (260, 40)
    assert not train & held_out
    assert {p.id for p in load_prompts(table, 0).held_out} == {p.id for p in loaded.held_out}


def test_the_dice_are_fair_and_fixed() -> None:
    # blake2b-128 of b"k:0" … read as big-endian numbers, modulo 10: the same on every machine
    import hashlib

    expected = [
        int.from_bytes(hashlib.blake2b(f"k:{i}".encode(), digest_size=16).digest(), "big") % 10 for i in range(5)
    ]
    dice = Dice("k")
    assert [dice.below(10) for _ in range(5)] == expected
    counts = [0] * 4
    for _ in range(4000):
        counts[dice.between(3, 6) - 3] += 1
    # 1000 each; the standard deviation is sqrt(4000 · 1/4 · 3/4) ≈ 27.4, five of them are 137
    assert all(abs(count - 1000) < 137 for count in counts)


@pytest.mark.parametrize(
    ("source", "options", "sentence"),
    [
        ("programs:large", {}, "no such task. Use programs:tiny"),
        ("programs:tiny", {"level": [1]}, "no option 'level'"),
        ("programs:tiny", {"levels": [4]}, r"levels = \[4\]"),
        ("programs:tiny", {"levels": [True]}, "levels"),
        ("programs:tiny", {"levels": []}, "levels"),
        ("programs:tiny", {"families": ["adds"]}, "expected a list of add, subtract"),
        ("programs:tiny", {"families": "add"}, "expected a list of add, subtract"),
        ("programs:tiny", {"tests": 2}, "tests = 2"),
        ("programs:tiny", {"families": ["upper"]}, "only 10 different questions"),
    ],
)
def test_what_cannot_be_made(source: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        load_prompts(DataTable(prompts=source, template="{question}", size=40, options=options), 0)
