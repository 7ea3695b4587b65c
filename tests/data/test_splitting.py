"""Repeats, identities and the split that keeps held-out prompts out of training."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from charter.data import PromptSet, load_prompts
from charter.errors import DataError
from charter.recipe import DataTable


def load(folder: Path, rows: list[dict[str, Any]], held_out: int | None = None, seed: int = 0) -> PromptSet:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load_prompts(DataTable(prompts=str(path), held_out=held_out), seed)


def rows(n: int) -> list[dict[str, Any]]:
    return [{"prompt": f"question {i}", "answer": str(i)} for i in range(n)]


def texts(prompts: Any) -> set[str]:
    return {p.messages[0]["content"] for p in prompts}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    names=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=2, max_size=40),
    held_out=st.integers(0, 8),
    shuffle=st.integers(0, 99),
)
def test_no_conversation_is_on_both_sides(
    tmp_path: Path, names: list[tuple[int, int]], held_out: int, shuffle: int
) -> None:
    made = [{"prompt": f"q{question}", "answer": answer} for question, answer in names]
    try:
        loaded = load(tmp_path, made, held_out)
    except DataError:
        assert held_out > 0
        return
    assert not texts(loaded.train.items) & texts(loaded.held_out)
    assert len(loaded.held_out) <= held_out
    assert len(loaded.train) + len(loaded.held_out) + loaded.dropped == len(made)
    assert loaded.dropped == len(made) - len(set(names))
    random.Random(shuffle).shuffle(made)
    again = load(tmp_path, made, held_out, seed=shuffle)
    assert again.held_out == loaded.held_out


def test_held_out_has_the_number_asked_for(tmp_path: Path) -> None:
    assert len(load(tmp_path, rows(50), 20).held_out) == 20


def test_a_prompt_stays_held_out_when_data_is_added(tmp_path: Path) -> None:
    small = texts(load(tmp_path, rows(100), 10).held_out)
    large = texts(load(tmp_path, rows(110), 10).held_out)
    # of the ten smallest hashes among 110, at least those survive that no newcomer pushed out
    assert len(small & large) >= 5


@pytest.mark.parametrize(("n", "expected"), [(99, 0), (100, 10), (639, 63), (1000, 64)])
def test_what_is_held_out_when_the_recipe_does_not_say(tmp_path: Path, n: int, expected: int) -> None:
    assert len(load(tmp_path, rows(n)).held_out) == expected


def test_holding_out_everything_names_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"held_out = 5 of 5 prompts leaves none to train on"):
        load(tmp_path, rows(5), 5)


def test_a_conversation_with_more_rows_than_asked_cannot_be_held_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="every conversation stands in more than"):
        load(tmp_path, [{"prompt": "same", "answer": i} for i in range(4)], 1)


def test_ids_come_from_content_and_from_nothing_else(tmp_path: Path) -> None:
    first = load(tmp_path, rows(3), 0)
    second = load(tmp_path, [{"answer": r["answer"], "prompt": r["prompt"]} for r in reversed(rows(3))], 0, seed=9)
    assert {p.id for p in first.train.items} == {p.id for p in second.train.items}
    other = load(tmp_path, [{"prompt": "question 0", "answer": "changed"}], 0)
    assert other.train.items[0].id not in {p.id for p in first.train.items}


def test_one_id_for_two_contents_is_an_error_that_names_both_lines(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:2: the id 'a' is that of .*rows\.jsonl:1 too"):
        load(tmp_path, [{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}])
    assert load(tmp_path, [{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "x"}]).dropped == 1
