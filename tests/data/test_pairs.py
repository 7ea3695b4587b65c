"""Rows of two answers: every form, and what is wrong with a row in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from charter.data import load_pairs
from charter.errors import DataError
from charter.recipe import DataTable
from charter.types import Pair

USER = [{"role": "user", "content": "2+2?"}]


def pairs_of(tmp_path: Path, *rows: dict, **table: object) -> list[Pair]:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(load_pairs(DataTable.model_validate({"pairs": str(file), **table}), 0).train.items)


@pytest.mark.parametrize(
    ("row", "role"),
    [
        ({"prompt": "2+2?", "chosen": "4", "rejected": "5"}, "text"),
        ({"question": "2+2?", "chosen": "4", "rejected": "5"}, "user"),
        ({"prompt": USER, "chosen": "4", "rejected": "5"}, "user"),
        ({"messages": USER, "chosen": "4", "rejected": "5"}, "user"),
        (
            {
                "prompt": USER,
                "chosen": [{"role": "assistant", "content": "4"}],
                "rejected": [{"role": "assistant", "content": "5"}],
            },
            "user",
        ),
        (
            {
                "chosen": [*USER, {"role": "assistant", "content": "4"}],
                "rejected": [*USER, {"role": "assistant", "content": "5"}],
            },
            "user",
        ),
    ],
)
def test_every_form_of_a_row_is_the_same_pair(tmp_path, row, role):
    (pair,) = pairs_of(tmp_path, row)
    assert (pair.a, pair.b, pair.p) == ("4", "5", 1.0)
    assert [dict(m) for m in pair.prompt.messages] == [{"role": role, "content": "2+2?"}]


def test_a_soft_label_a_template_and_a_system_message(tmp_path):
    row = {"x": "2", "chosen": "4", "rejected": "5", "p": 0.75}
    (pair,) = pairs_of(tmp_path, row, template="{x}+2?", system="Be short.")
    assert pair.p == 0.75
    assert [m["content"] for m in pair.prompt.messages] == ["Be short.", "2+2?"]


def test_rows_are_used_once_and_ids_are_by_content(tmp_path):
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    same, other = pairs_of(tmp_path, row, row, {**row, "p": 0.5})
    assert same.id != other.id
    with pytest.raises(DataError, match="Give each its own id"):
        pairs_of(tmp_path, {**row, "id": 1}, {**row, "chosen": "d", "id": 1})


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "a", "rejected": "c"}, "no column 'chosen'"),
        ({"chosen": "b", "rejected": "c"}, "no column 'prompt' or 'question'"),
        ({"prompt": "a", "chosen": 3, "rejected": "c"}, "chosen is int, expected text"),
        ({"prompt": "a", "chosen": " ", "rejected": "c"}, "message is empty"),
        ({"prompt": "a", "chosen": "c", "rejected": "c"}, "the same answer"),
        ({"prompt": "a", "chosen": USER, "rejected": "c"}, "ends with a turn of the role 'user'"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "p": "high"}, "p is 'high'"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "p": True}, "p is True"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "p": -0.1}, "p is -0.1"),
        (
            {
                "chosen": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "4"}],
                "rejected": [*USER, {"role": "assistant", "content": "5"}],
            },
            "different conversations",
        ),
        (
            {"prompt": "a", "chosen": [*USER, {"role": "assistant", "content": "4"}], "rejected": "5"},
            "whole conversations",
        ),
        ({"prompt": [*USER, {"role": "assistant", "content": "4"}], "chosen": "b", "rejected": "c"}, "assistant turn"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, row, said):
    with pytest.raises(DataError, match=r"pairs\.jsonl:2") as caught:
        pairs_of(tmp_path, {"prompt": "x", "chosen": "y", "rejected": "z"}, row)
    assert said in str(caught.value)
