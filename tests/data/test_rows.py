"""Rows of every accepted form, and the sentence for every row that is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from charter.data import load_examples, load_prompts
from charter.errors import DataError, MissingExtra
from charter.recipe import DataTable
from charter.types import Message, Prompt


def jsonl(folder: Path, *rows: Any) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return str(path)


def prompts(folder: Path, *rows: Any, **table: Any) -> list[Prompt]:
    loaded = load_prompts(DataTable(prompts=jsonl(folder, *rows), held_out=0, **table), 0)
    return list(loaded.train.items)


def turn(role: str, content: str) -> Message:
    return Message(role=role, content=content)


@pytest.mark.parametrize(
    ("row", "table", "messages"),
    [
        ({"prompt": "Once upon"}, {}, [turn("text", "Once upon")]),
        ({"prompt": "Hi"}, {"system": "Be kind."}, [turn("system", "Be kind."), turn("user", "Hi")]),
        ({"prompt": [turn("user", "Hi")]}, {}, [turn("user", "Hi")]),
        (
            {"prompt": [turn("user", "a"), turn("assistant", "b"), turn("user", "c")]},
            {"system": "S"},
            [turn("system", "S"), turn("user", "a"), turn("assistant", "b"), turn("user", "c")],
        ),
        ({"question": "2+2"}, {}, [turn("user", "2+2")]),
        ({"question": "2+2"}, {"template": "What is {question}?"}, [turn("user", "What is 2+2?")]),
        (
            {"a": 3, "metadata": {"b": {"c": 4.5}}},
            {"template": "{{{a}}} {metadata.b.c}"},
            [turn("user", "{3} 4.5")],
        ),
        ({"x.y": "dotted"}, {"template": "{x.y}"}, [turn("user", "dotted")]),
    ],
)
def test_forms_of_a_prompt(tmp_path: Path, row: dict[str, Any], table: dict[str, Any], messages: list[Message]) -> None:
    (prompt,) = prompts(tmp_path, row, **table)
    assert list(prompt.messages) == messages


def test_other_columns_become_fields(tmp_path: Path) -> None:
    (prompt,) = prompts(tmp_path, {"prompt": "q", "answer": "4", "level": 2, "id": "first"})
    assert prompt.id == "first"
    assert prompt.fields == {"answer": "4", "level": 2}
    loaded = load_prompts(DataTable(prompts=jsonl(tmp_path, {"prompt": "q", "a": 1}, {"prompt": "r", "b": 1})), 0)
    assert loaded.columns == ("a", "b")


@pytest.mark.parametrize(
    ("row", "table", "sentence"),
    [
        ("nonsense\n", {}, r"rows\.jsonl:2: the row is not JSON: Expecting value at column 1"),
        ('{"prompt": "torn', {}, r"rows\.jsonl:2: the row is not JSON.*may be cut off"),
        ("[1]\n", {}, r"rows\.jsonl:2: the row is a list, not a JSON object"),
        ('{"prompt": "x", "v": NaN}\n', {}, r"rows\.jsonl:2: the row holds NaN"),
        ('{"prompt": "x", "v": 1e999}\n', {}, r"rows\.jsonl:2: the row holds 1e999"),
        ('{"prompt": "x", "prompt": "y"}\n', {}, r"rows\.jsonl:2: the row holds the key 'prompt' twice"),
        ({"text": "x"}, {}, r"rows\.jsonl:2: the row has no column 'prompt' or 'question'; it has 'text'"),
        ({"prompt": ""}, {}, r"rows\.jsonl:2: the text message is empty"),
        ({"prompt": " \n"}, {}, r"rows\.jsonl:2: the text message is empty"),
        ({"prompt": 7}, {}, r"rows\.jsonl:2: the column 'prompt' is int, expected text"),
        ({"prompt": None}, {}, r"rows\.jsonl:2: the column 'prompt' is NoneType, expected text"),
        ({"prompt": []}, {}, r"rows\.jsonl:2: prompt is an empty list"),
        ({"prompt": ["x"]}, {}, r"rows\.jsonl:2: prompt\[0\] is 'x', expected \{\"role\""),
        ({"prompt": [turn("human", "x")]}, {}, r"prompt\[0\] has the role 'human', expected one of system, user"),
        ({"prompt": [turn("user", "x"), turn("system", "y")]}, {}, r"prompt\[1\] is a system message"),
        ({"prompt": [{"role": "user", "content": ["x"]}]}, {}, r"prompt\[0\] has content of type list, expected text"),
        ({"prompt": [turn("user", "x"), turn("assistant", "y")]}, {}, r"ends with an assistant turn"),
        ({"prompt": [turn("system", "x"), turn("user", "y")]}, {"system": "z"}, r"a system message of its own"),
        ({"prompt": "x"}, {"template": "{question}"}, r"rows\.jsonl:(1|2): the row has no column 'question'"),
        ({"prompt": "x", "id": []}, {}, r"rows\.jsonl:2: the id is \[\], expected a text or a whole number"),
        ('{"prompt": "\\ud800"}\n', {}, r"rows\.jsonl:2: .*half a surrogate pair"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, row: Any, table: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        prompts(tmp_path, {"prompt": "fine"} if "system" not in table else {"prompt": "ok"}, row, **table)


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("What?", "no {column} placeholder"),
        ("{question", "braces"),
        ("{} x", "placeholder without a name"),
        ("{question:>5}", "neither a format nor a conversion"),
        ("{flag}", "stands for True"),
        ("{nothing}", "stands for an empty text"),
    ],
)
def test_templates_that_cannot_be_filled(tmp_path: Path, template: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        prompts(tmp_path, {"question": "x", "flag": True, "nothing": " "}, template=template)


def test_files_that_hold_no_rows_or_are_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no rows"):
        prompts(tmp_path, "\n\n")
    (tmp_path / "a.csv").touch()
    for name, sentence in (("a.csv", r"files of type '\.csv'"), ("none.jsonl", "there is no such file")):
        with pytest.raises(DataError, match=sentence):
            load_prompts(DataTable(prompts=str(tmp_path / name)), 0)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="not readable as Parquet"):
        load_prompts(DataTable(prompts=str(tmp_path / "bad.parquet")), 0)
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "caf\xe9"}\n')
    with pytest.raises(DataError, match=r"latin\.jsonl:1: byte 15 of the line is not UTF-8"):
        load_prompts(DataTable(prompts=str(tmp_path / "latin.jsonl")), 0)


def test_line_separators_inside_texts_end_no_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a\u2028b\x85c"}\n\n{"prompt": "d"}', encoding="utf-8")
    loaded = load_prompts(DataTable(prompts=str(path)), 0)
    assert [p.messages[0]["content"] for p in loaded.train.items] == ["a\u2028b\x85c", "d"]


def test_parquet_reads_as_its_rows_do(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"prompt": [dict(turn("user", "a"))], "answer": "1"}, {"prompt": [dict(turn("user", "b"))], "answer": "2"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    parquet = load_prompts(DataTable(prompts=str(tmp_path / "rows.parquet")), 0)
    assert list(parquet.train.items) == prompts(tmp_path, *rows)
    pq.write_table(pa.Table.from_pylist([{"prompt": "a", "v": float("nan")}]), tmp_path / "nan.parquet")
    with pytest.raises(DataError, match=r"nan\.parquet row 1: the column 'v'"):
        load_prompts(DataTable(prompts=str(tmp_path / "nan.parquet")), 0)


def test_size_reads_only_so_many(tmp_path: Path) -> None:
    assert len(prompts(tmp_path, {"prompt": "a"}, {"prompt": "b"}, "nonsense\n", size=2)) == 2


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        (
            {"messages": [turn("user", "a"), turn("assistant", "b")]},
            [turn("user", "a"), turn("assistant", "b")],
        ),
        ({"prompt": "a", "completion": "b"}, [turn("text", "a"), turn("assistant", "b")]),
        (
            {"prompt": [turn("user", "a")], "completion": [turn("assistant", "b")]},
            [turn("user", "a"), turn("assistant", "b")],
        ),
        ({"prompt": [turn("user", "a")], "completion": "b"}, [turn("user", "a"), turn("assistant", "b")]),
    ],
)
def test_forms_of_an_example(tmp_path: Path, row: dict[str, Any], messages: list[Message]) -> None:
    examples = load_examples(DataTable(examples=jsonl(tmp_path, row, row)), 0)
    (example,) = examples.train.items
    assert list(example.messages) == messages
    assert examples.dropped == 1
    assert next(examples.steps(1)) == (1, (example,))


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"messages": [turn("user", "a")]}, "no assistant turn"),
        ({"prompt": "a"}, "no column 'messages', or 'prompt' and 'completion'"),
        ({"prompt": "a", "completion": ""}, "the assistant message is empty"),
        ({"messages": "a"}, "messages is str, expected a list"),
    ],
)
def test_examples_that_teach_nothing(tmp_path: Path, row: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        load_examples(DataTable(examples=jsonl(tmp_path, row)), 0)


def test_the_hub_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"charter\[hub\]"):
        load_prompts(DataTable(prompts="hf:someone/some-data"), 0)


def test_hub_rows_come_with_their_options(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import SimpleNamespace

    asked: dict[str, Any] = {}

    def load_dataset(name: str, **options: Any) -> list[dict[str, Any]]:
        asked.update(options, name=name)
        if name == "broken":
            raise ConnectionError("no route")
        return [{"prompt": "a", "answer": "1"}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    loaded = load_prompts(DataTable(prompts="hf:some/data", options={"split": "test"}), 0)
    assert asked == {"name": "some/data", "split": "test"}
    assert loaded.columns == ("answer",)
    with pytest.raises(DataError, match=r"hf:broken: it could not be loaded .*ConnectionError: no route"):
        load_prompts(DataTable(prompts="hf:broken"), 0)
