"""`schema`: JSON that keeps to a JSON Schema."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from charter.errors import UsageError
from charter.reward import load_reward
from charter.types import Score

Scores = Callable[..., list[Score]]

ORDER = {
    "type": "object",
    "required": ["id", "items"],
    "properties": {
        "id": {"type": "integer"},
        "items": {"type": "array", "items": {"type": "object", "properties": {"price": {"type": "number"}}}},
        "memo": {"type": "string"},
    },
    "additionalProperties": False,
}


def values(scores: list[Score]) -> list[float | None]:
    return [score.value for score in scores]


def test_schema(score_texts: Scores) -> None:
    good = json.dumps({"id": 1, "items": [{"price": 2.5}]})
    bad = json.dumps({"id": 1, "items": [{"price": 1}, {"price": 2}, {"price": "x"}]})
    fenced = f"Here:\n```json\n{bad}\n```\nor rather\n```json\n{good}\n```\n"
    tagged = f"<think>{bad}</think><answer>{good}</answer>"
    texts = [good, bad, fenced, "no", "", "[" * 100_000, '{"id": NaN}', "9" * 10_000, tagged]
    scores = score_texts("schema", texts, schema=ORDER)
    assert values(scores) == [1, 0, 1, 0, 0, 0, 0, 0, 1]
    assert scores[1].note == "$.items[2].price (type): 'x' is not of type 'number'"
    assert scores[3].note.startswith("not JSON: Expecting value")
    assert scores[5].note == "not JSON: nested too deeply (more than 200)"
    assert scores[6].note == "not JSON: NaN is not JSON"
    places = [good, fenced, tagged]
    assert values(score_texts("schema", places, schema=ORDER, extract="text")) == [1, 0, 0]
    assert values(score_texts("schema", places, schema=ORDER, extract="fence")) == [0, 1, 0]
    assert values(score_texts("schema", places, schema=ORDER, extract="answer")) == [0, 0, 1]


@pytest.mark.parametrize(
    ("instance", "note"),
    [
        ({"id": 1}, "$ (required): 'items' is a required property"),
        ({"id": True, "items": []}, "$.id (type): True is not of type 'integer'"),
        (
            {"id": 1, "items": [], "x y": 0},
            "$ (additionalProperties): Additional properties are not allowed ('x y' was unexpected)",
        ),
        ({"id": 1.5, "items": 3}, "$.items (type): 3 is not of type 'array' (and 1 more)"),
        ([], "$ (type): [] is not of type 'object'"),
        ({"id": 1, "items": [{"price": "\ud800"}]}, "$.items[0].price (type): '\\ud800' is not of type 'number'"),
    ],
)
def test_the_note_has_path_and_keyword(score_texts: Scores, instance: object, note: str) -> None:
    assert score_texts("schema", [json.dumps(instance)], schema=ORDER)[0].note == note


@pytest.mark.parametrize(
    ("schema", "good", "bad", "keyword"),
    [
        ({"prefixItems": [{"type": "string"}], "items": False}, ["a"], ["a", 1], "items"),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1, "b": 2}, {"a": 1}, "dependentRequired"),
        ({"$defs": {"n": {"type": "null"}}, "$ref": "#/$defs/n"}, None, 0, "type"),
        ({"properties": {"a": True}, "unevaluatedProperties": False}, {"a": 1}, {"b": 1}, "unevaluatedProperties"),
        ({"contains": {"const": 1}, "maxContains": 1}, [1, 2], [1, 1], "maxContains"),
        ({"const": 1}, 1.0, True, "const"),  # 1.0 is the integer 1, true is not
        ({"type": "integer"}, 1.0, 1.5, "type"),
        ({"multipleOf": 0.5}, 10**299, 0.75, "multipleOf"),
    ],
)
def test_draft_2020_12(score_texts: Scores, schema: dict[str, Any], good: Any, bad: Any, keyword: str) -> None:
    right, wrong = score_texts("schema", [json.dumps(good), json.dumps(bad)], schema=schema)
    assert (right.value, right.note) == (1, "")
    assert wrong.value == 0
    assert f"({keyword})" in wrong.note


@pytest.mark.parametrize(
    ("instance", "value"),
    [
        ({"id": 1, "items": []}, 1.0),
        ({"id": "1", "items": []}, 2 / 3),  # items and the absent memo are sound, id is not: 2 of 3
        ({"id": 1, "items": [{"price": "x"}]}, 2 / 3),
        ({"id": 1}, 2 / 3),
        ({"id": 1, "items": [], "note": 0}, 3 / 4),  # 3 sound of 3 declared + 1 unexpected
        ({}, 0.0),
        ([], 0.0),
    ],
)
def test_partial_credit(score_texts: Scores, instance: object, value: float) -> None:
    (score,) = score_texts("schema", [json.dumps(instance)], schema=ORDER, partial=True)
    assert score.value == pytest.approx(value, abs=1e-12)


def test_notes_can_be_written_to_a_file(score_texts: Scores) -> None:
    (score,) = score_texts("schema", ['{"\\ud800": 1}'], schema={"additionalProperties": {"type": "string"}})
    assert "ud800" in score.note
    assert score.note.encode("utf-8").endswith(b"(type): 1 is not of type 'string'")


def test_strictness_is_decided(score_texts: Scores) -> None:
    twice, comma, comment = '{"id": 1, "items": [], "id": 2}', '{"id": 1, "items": [],}', '{"id": 1 /*x*/}'
    scores = score_texts("schema", [twice, comma, comment, "1e400"], schema=True)
    assert values(scores) == [0, 0, 0, 0]
    assert scores[0].note == "not JSON: the key 'id' appears twice in one object"


def test_formats_are_checked_when_asked_for(score_texts: Scores) -> None:
    schema, texts = {"format": "date"}, ['"2024-02-29"', '"2023-02-29"']
    assert values(score_texts("schema", texts, schema=schema)) == [1, 1]
    assert values(score_texts("schema", texts, schema=schema, formats=True)) == [1, 0]


def test_each_row_may_have_its_own_schema(score_texts: Scores) -> None:
    for schema in ({"type": "integer"}, '{"type": "integer"}'):
        assert values(score_texts("schema", ["1", '"1"'], {"s": schema}, column="s")) == [1, 0]
    assert score_texts("schema", ["1"], {"s": None}, column="s")[0].status == "abstained"
    for schema, note in (
        ({"type": "intger"}, "row p, column 's': not a JSON Schema: at $.type: 'intger'"),
        ("{", "row p, column 's': not JSON: Expecting property name"),
        (3, "row p, column 's': a int; expected a JSON Schema"),
    ):
        (score,) = score_texts("schema", ["1"], {"s": schema}, column="s")
        assert score.status == "failed"
        assert score.note.startswith(note)
    with pytest.raises(UsageError, match="exactly one of schema and column"):
        load_reward("schema")


def test_schema_patterns_that_explode(score_texts: Scores) -> None:
    started = time.monotonic()
    schema = {"type": "string", "pattern": "^(a+)+$"}
    (score,) = score_texts("schema", [json.dumps("a" * 60 + "!")], schema=schema, timeout_s=0.5, in_worker=True)
    assert (score.value, score.note) == (0.0, "the completion did not parse within 0.5 s")
    assert time.monotonic() - started < 6


def test_schema_from_a_file_and_schemas_that_are_none(score_texts: Scores, tmp_path: Path) -> None:
    path = tmp_path / "order.json"
    path.write_text(json.dumps(ORDER), "utf-8")
    assert values(score_texts("schema", ['{"id": 1, "items": []}'], schema=str(path))) == [1]
    with pytest.raises(UsageError, match=r"not a JSON Schema: at \$\.type: 'objekt'"):
        load_reward("schema", schema={"type": "objekt"})
    with pytest.raises(UsageError, match=r"none\.json' cannot be read: No such file"):
        load_reward("schema", schema=str(tmp_path / "none.json"))
    (score,) = score_texts("schema", ["1"], schema={"$ref": "http://127.0.0.1:9/remote.json"})
    assert score.status == "failed"
    assert "refers to what is not in it" in score.note


def test_schema_is_gamed_by_the_smallest_document(score_texts: Scores) -> None:
    empty = '{"id": 0, "items": []}'
    assert values(score_texts("schema", [empty, "{}"], schema=ORDER)) == [1, 0]
    assert values(score_texts("schema", ["{}"], schema={"type": "object"})) == [1]
    strict = {**ORDER, "properties": {**ORDER["properties"], "items": {"type": "array", "minItems": 1}}}
    assert values(score_texts("schema", [empty], schema=strict)) == [0]


def test_schema_with_partial_is_gamed_by_the_easy_properties(score_texts: Scores) -> None:
    (score,) = score_texts("schema", ['{"id": 0}'], schema=ORDER, partial=True)
    assert score.value == pytest.approx(2 / 3)


def test_hostile_text_is_wrong_in_bounded_time(score_texts: Scores) -> None:
    texts = [
        "[" * 50_000,
        '{"a":' * 50_000 + "1" + "}" * 50_000,
        "[" * 190 + "0," * 300_000 + "0" + "]" * 190,
        json.dumps([{"id": str(i)} for i in range(40_000)]),
        json.dumps({str(i): i for i in range(60_000)}),
        '"' + "\\ud800" * 150_000 + '"',
        "\ud800" * 200_000,
        "\0" * 1_000_000,
        "9" * 100_000,
        "[" + "9" * 100_000 + "]",
        "```\n" * 200_000,
        '"' * 1_000_000,
    ]
    schema = {"type": "array", "items": ORDER, "uniqueItems": True, "minItems": 1}
    started = time.monotonic()
    scores = score_texts("schema", texts, schema=schema, partial=True, in_worker=True)
    assert {(score.value, score.status) for score in scores} == {(0.0, "scored")}
    assert time.monotonic() - started < 30


def test_a_schema_without_end_is_wrong_on_deep_text(score_texts: Scores) -> None:
    tree = {"type": "array", "items": {"$ref": "#"}}
    assert values(score_texts("schema", ["[" * 150 + "]" * 150, "[" * 150 + "1" + "]" * 150], schema=tree)) == [1, 0]
