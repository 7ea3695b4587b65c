"""`exact`, `regex`, `format`, `length`, `schema`."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.errors import UsageError
from charter.reward import as_group, load_reward
from charter.reward.runtime import NamedReward
from charter.reward.json_text import find_json
from charter.reward.tags import format_fault
from charter.types import Group, Prompt, Rollout, Score


def run(name: str, texts: list[str], fields: dict[str, Any] | None = None, **options: Any) -> list[Score]:
    reward = load_reward(name, **{"timeout_s": 2.0, **options})
    prompt = Prompt(id="p", messages=(), fields=fields or {})
    try:
        return list(asyncio.run(reward.score(as_group(prompt, texts))))
    finally:
        assert isinstance(reward, NamedReward)
        reward.shut_down()


def values(scores: list[Score]) -> list[float | None]:
    return [score.value for score in scores]


def test_exact() -> None:
    texts = ["Paris", " Paris\n", "paris", "Paris.", "", "\ud800"]
    assert values(run("exact", texts, {"answer": "Paris"})) == [1, 1, 0, 0, 0, 0]
    assert values(run("exact", texts, {"answer": "Paris"}, strip=False)) == [1, 0, 0, 0, 0, 0]
    assert values(run("exact", texts, {"answer": "Paris"}, case=False)) == [1, 1, 1, 0, 0, 0]
    assert values(run("exact", texts, {"gold": ["Rome", "paris"]}, answer="gold")) == [0, 0, 1, 0, 0, 0]
    assert values(run("exact", ["42"], {"answer": 42})) == [1]
    assert values(run("exact", ["STRASSE"], {"answer": "straße"}, case=False)) == [1]
    assert run("exact", ["x"], {"answer": None})[0].status == "abstained"
    assert run("exact", ["x"], {})[0].note == "row p has no column 'answer' (its columns: none)"


def test_regex() -> None:
    texts = ["order 66", "66", "6\n6", ""]
    assert values(run("regex", texts, pattern=r"\d\d")) == [1, 1, 0, 0]
    assert values(run("regex", texts, pattern=r"\d\d", match="fullmatch")) == [0, 1, 0, 0]
    assert values(run("regex", texts, pattern=r"6.6", dotall=True)) == [0, 0, 1, 0]
    assert values(run("regex", texts, pattern=r"ORDER", ignore_case=True)) == [1, 0, 0, 0]
    assert values(run("regex", texts, pattern=r"^6$", multiline=True)) == [0, 0, 1, 0]


def test_a_pattern_that_explodes_is_a_wrong_answer_in_bounded_time() -> None:
    started = time.monotonic()
    slow, quick = run("regex", ["a" * 60 + "!", "aaa"], pattern=r"^(a+)+$", timeout_s=0.5)
    assert (slow.value, slow.status, slow.note) == (0.0, "scored", "the completion did not parse within 0.5 s")
    assert quick.value == 1.0
    assert time.monotonic() - started < 6


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("<think>a</think><answer>b</answer>", ""),
        (" <think>\na\n</think>\n\n<answer>é\ud800</answer>\n", ""),
        ("<think>a<answer>b</answer>", "</think> is missing"),
        ("", "<think> is missing"),
        ("<think>a</think>", "<answer> is missing"),
        ("<think>a</think><answer>b</answer><answer>c</answer>", "<answer> appears 2 times"),
        ("<answer>b</answer><think>a</think>", "<answer> comes before </think>"),
        ("<think>a</answer><answer>b</think>", "<answer> comes before </think>"),
        ("</think>a<think><answer>b</answer>", "</think> comes before <think>"),
        ("hi <think>a</think><answer>b</answer>", "there is text before <think>"),
        ("<think>a</think> so <answer>b</answer>", "there is text before <answer>"),
        ("<think>a</think><answer>b</answer> bye", "there is text after </answer>"),
    ],
)
def test_format(text: str, fault: str) -> None:
    assert format_fault(text, ["think", "answer"]) == fault
    (score,) = run("format", [text])
    assert (score.value, score.note) == (0.0 if fault else 1.0, fault)


def test_format_options() -> None:
    assert values(run("format", ["a</think><answer>b</answer>", "<think>a"], opened=True)) == [1, 0]
    assert values(run("format", ["<plan>x</plan>"], tags=["plan"])) == [1]
    with pytest.raises(UsageError, match="write it without < and >"):
        load_reward("format", tags=["<plan>"])


@given(st.text(alphabet="ab <>/", max_size=12), st.text(alphabet="ab \n", max_size=12), st.text(max_size=5))
def test_a_well_formed_text_has_no_fault_and_anything_around_it_is_one(think: str, answer: str, junk: str) -> None:
    text = f"<think>{think}</think><answer>{answer}</answer>"
    assert format_fault(text, ["think", "answer"]) == ""
    if junk.strip():
        assert format_fault(text + junk, ["think", "answer"])
        assert format_fault(junk + text, ["think", "answer"])


def of_length(tokens: int) -> Group:
    rollout = Rollout(prompt_id="p", index=0, tokens=(5,) * tokens, logprobs=(), text="é" * 3, stop="eos", version=0)
    return Group(prompt=Prompt(id="p", messages=()), rollouts=(rollout,))


@pytest.mark.parametrize(
    ("options", "tokens", "value"),
    [
        ({"target": 10}, 10, 1.0),
        ({"target": 10}, 7, 0.7),  # 1 - |7 - 10| / 10
        ({"target": 10}, 14, 0.6),  # 1 - |14 - 10| / 10
        ({"target": 10}, 25, 0.0),  # 1 - 1.5 < 0
        ({"max": 10}, 1, 1.0),
        ({"max": 10}, 10, 1.0),
        ({"max": 10}, 12, 0.8),  # 1 - 2 / 10
        ({"max": 10}, 21, 0.0),
        ({"target": 4, "unit": "characters"}, 9, 0.75),  # "ééé" has 3 characters
    ],
)
def test_length(options: dict[str, Any], tokens: int, value: float) -> None:
    (score,) = asyncio.run(load_reward("length", **options).score(of_length(tokens)))
    assert score.value == pytest.approx(value, abs=1e-12)


def test_length_refuses_to_guess() -> None:
    for options in ({}, {"target": 3, "max": 4}):
        with pytest.raises(UsageError, match="exactly one of target and max"):
            load_reward("length", **options)
    (score,) = run("length", ["text without tokens"], max=5)
    assert (score.value, score.status) == (None, "failed")


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


def test_schema() -> None:
    good = json.dumps({"id": 1, "items": [{"price": 2.5}]})
    bad = json.dumps({"id": 1, "items": [{"price": 1}, {"price": 2}, {"price": "x"}]})
    fenced = f"Here:\n```json\n{bad}\n```\nor rather\n```json\n{good}\n```\n"
    scores = run("schema", [good, bad, fenced, "no", "", "[" * 100_000, '{"id": NaN}', "9" * 10_000], schema=ORDER)
    assert values(scores) == [1, 0, 1, 0, 0, 0, 0, 0]
    assert scores[1].note == "$.items[2].price: 'x' is not of type 'number'"
    assert scores[3].note.startswith("not JSON: Expecting value")
    assert scores[5].note == "not JSON: nested too deeply"
    assert scores[6].note == "not JSON: NaN is not JSON"
    assert values(run("schema", [good, fenced], schema=ORDER, extract="text")) == [1, 0]
    assert values(run("schema", [good, fenced], schema=ORDER, extract="fence")) == [0, 1]


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
def test_partial_credit(instance: object, value: float) -> None:
    (score,) = run("schema", [json.dumps(instance)], schema=ORDER, partial=True)
    assert score.value == pytest.approx(value, abs=1e-12)


def test_schema_patterns_that_explode() -> None:
    started = time.monotonic()
    (score,) = run(
        "schema", [json.dumps("a" * 60 + "!")], schema={"type": "string", "pattern": "^(a+)+$"}, timeout_s=0.5
    )
    assert (score.value, score.note) == (0.0, "the completion did not parse within 0.5 s")
    assert time.monotonic() - started < 6


def test_schema_from_a_file_and_schemas_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "order.json"
    path.write_text(json.dumps(ORDER), "utf-8")
    assert values(run("schema", ['{"id": 1, "items": []}'], schema=str(path))) == [1]
    with pytest.raises(UsageError, match=r"not a JSON Schema: at \$\.type: 'objekt'"):
        load_reward("schema", schema={"type": "objekt"})
    with pytest.raises(UsageError, match=r"none\.json' cannot be read: No such file"):
        load_reward("schema", schema=str(tmp_path / "none.json"))
    (score,) = run("schema", ["1"], schema={"$ref": "http://127.0.0.1:9/remote.json"})
    assert score.status == "failed"
    assert "refers to what is not in it" in score.note


@settings(max_examples=40, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
    )
)
def test_any_json_is_found_whole_or_fenced(value: Any) -> None:
    text = json.dumps(value)
    assert find_json(text, "auto") == value
    assert find_json(f"So:\n```json\n{text}\n```", "auto") == value
