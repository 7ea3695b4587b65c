"""`tool_call`: the right tool with the right arguments."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.reward.tool import write_calls
from charter.reward.tool_answer import Call, compare_call, compare_calls, find_calls, trusted_calls
from charter.types import Score

Scores = Callable[..., list[Score]]

WEATHER = {"name": "weather", "arguments": {"city": "Paris", "days": 2}}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer", "minimum": 1},
                    "unit": {"enum": ["C", "F"], "default": "C"},
                },
                "required": ["city"],
            },
        },
    },
    {"name": "now", "input_schema": {"type": "object", "properties": {}}},
]


def hermes(*calls: Any) -> str:
    return "".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls)


def openai(name: str, arguments: Any) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def values(scores: list[Score]) -> list[float | None]:
    return [score.value for score in scores]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (hermes(WEATHER), ""),
        (f"I will look it up. {hermes(WEATHER)}", ""),
        (json.dumps(WEATHER), ""),
        (f"```json\n{json.dumps(WEATHER)}\n```", ""),
        (json.dumps({"name": "weather", "parameters": WEATHER["arguments"]}), ""),
        (json.dumps(openai("weather", WEATHER["arguments"])), ""),
        (json.dumps({"tool_calls": [openai("weather", WEATHER["arguments"])]}), ""),
        (json.dumps([WEATHER]), ""),
        ('{"name": "weather", "arguments": {"days": 2.0, "city": "Paris"}}', ""),  # 2.0 is 2; order of names is nothing
        ("", "no call: not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("[]", "no call: JSON without a name and arguments"),
        ('{"tool_calls": []}', "malformed call: an empty list of calls"),
        ('{"name": "weather"}', "no call: JSON without a name and arguments"),
        ("It will rain.", "no call: not JSON: Expecting value: line 1 column 1 (char 0)"),
        (hermes(WEATHER, WEATHER), "2 calls; expected 1"),
        (hermes(WEATHER) + "<tool_call>", "malformed call: <tool_call> is not closed"),
        (f"<tool_call>{hermes(WEATHER)}", "malformed call: <tool_call> is not closed"),
        (hermes(WEATHER) + "</tool_call>", "malformed call: </tool_call> without <tool_call>"),
        ("<tool_call>weather(Paris, 2)</tool_call>", "malformed call: Expecting value: line 1 column 1 (char 0)"),
        (hermes([WEATHER]), "malformed call: a call is an object, not a list"),
        (hermes({"name": "weather"}), 'malformed call: a call needs "arguments"'),
        (hermes({"name": 3, "arguments": {}}), 'malformed call: a call needs a "name"'),
        (hermes({**WEATHER, "parameters": {}}), 'malformed call: a call has both "arguments" and "parameters"'),
        (hermes({**WEATHER, "thought": "x"}), "malformed call: a call has no key 'thought'"),
        (hermes({**WEATHER, "type": "tool"}), 'malformed call: the "type" of a call is "function"'),
        (hermes({"name": "weather", "arguments": [1]}), "malformed call: the arguments are an object, not a list"),
        (hermes({"name": "clima", "arguments": {}}), "it calls 'clima', not 'weather'"),
        (hermes({"name": "weather", "arguments": {"city": "Paris"}}), "the argument 'days' is missing"),
        (
            hermes({"name": "weather", "arguments": {"city": "Paris", "days": "2"}}),
            "the argument 'days' is \"2\", not 2",
        ),
        (
            hermes({"name": "weather", "arguments": {**WEATHER["arguments"], "x": 1}}),
            "the argument 'x' is not expected",
        ),
        ('{"name": "weather", "name": "weather", "arguments": {}}', None),  # a key twice is no JSON
    ],
)
def test_one_call(score_texts: Scores, text: str, note: str | None) -> None:
    (score,) = score_texts("tool_call", [text], {"answer": WEATHER})
    assert score.status == "scored"
    assert score.value == (1.0 if note == "" else 0.0)
    assert note is None or score.note == note


def test_a_syntax_can_be_fixed(score_texts: Scores) -> None:
    texts = [hermes(WEATHER), json.dumps(WEATHER), json.dumps(openai("weather", WEATHER["arguments"]))]
    for place, syntax in enumerate(("hermes", "json", "openai")):
        expected = [float(i == place) for i in range(3)]
        assert values(score_texts("tool_call", texts, {"answer": WEATHER}, syntax=syntax)) == expected


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ({"city": "Paris", "days": 2}, 1.0),
        ({"city": "Paris", "days": 3}, 5 / 6),  # name 1, names 2/2, values 1/2: (1 + 1 + .5) / 3
        ({"city": "Paris"}, 2 / 3),  # names 1/2, values 1/2
        ({"city": "Paris", "days": 2, "x": 1}, 7 / 9),  # names 2/3, values 2/3
        ({"a": 1, "b": 2}, 1 / 3),  # four names in all, none shared
        ({}, 1 / 3),
    ],
)
def test_partial_credit(score_texts: Scores, arguments: dict[str, Any], value: float) -> None:
    text = hermes({"name": "weather", "arguments": arguments})
    (score,) = score_texts("tool_call", [text], {"answer": WEATHER}, partial=True)
    assert score.value == pytest.approx(value, abs=1e-12)
    other = hermes({"name": "clima", "arguments": arguments})
    assert values(score_texts("tool_call", [other, text + text], {"answer": WEATHER}, partial=True)) == [0, 0]


def test_several_calls_in_any_order(score_texts: Scores) -> None:
    rome = {"name": "weather", "arguments": {"city": "Rome"}}
    texts = [hermes(WEATHER, rome), hermes(rome, WEATHER), hermes(rome, rome), hermes(rome)]
    for expected in ([WEATHER, rome], json.dumps([WEATHER, rome])):
        assert values(score_texts("tool_call", texts, {"answer": expected})) == [1, 1, 0, 0]
    # rome twice: one full credit, one against Paris for 2 days: name 1, names 1/2, values 0/2 → 1/2; mean 3/4
    assert score_texts("tool_call", texts[2:3], {"answer": [WEATHER, rome]}, partial=True)[0].value == 0.75


def test_a_row_may_want_no_call(score_texts: Scores) -> None:
    answers = ["Hello to you too.", "4", '{"name": "Ann"}', "[1]", "```json\n{}\n```"]
    calls = ["", " \n", hermes(WEATHER), json.dumps(WEATHER), json.dumps([1, WEATHER]), "<tool_call>{", "</tool_call>"]
    assert values(score_texts("tool_call", answers, {"answer": []})) == [1, 1, 1, 1, 1]
    assert values(score_texts("tool_call", calls, {"answer": []})) == [0, 0, 0, 0, 0, 0, 0]
    assert score_texts("tool_call", ["x"], {"answer": None})[0].status == "abstained"


@pytest.mark.parametrize(
    ("call", "value", "note"),
    [
        ({"name": "weather", "arguments": {"city": "Oslo"}}, 1.0, ""),
        ({"name": "now", "arguments": {}}, 1.0, ""),
        ({"name": "now", "arguments": {"zone": "UTC"}}, 1 / 3, "$ (additionalProperties)"),
        ({"name": "rain", "arguments": {}}, 0.0, "there is no tool 'rain'"),
        ({"name": "weather", "arguments": {}}, 1 / 3, "$ (required): 'city' is a required property"),
        # known names 2/2, sound values 1/2: (1 + 1 + .5) / 3
        ({"name": "weather", "arguments": {"city": "Oslo", "days": 0}}, 5 / 6, "$.days (minimum)"),
        ({"name": "weather", "arguments": {"city": 1}}, 2 / 3, "$.city (type): 1 is not of type 'string'"),
    ],
)
def test_signatures_alone(score_texts: Scores, call: dict[str, Any], value: float, note: str) -> None:
    for tools in ({"tools": TOOLS}, {"tools": "t"}):
        fields = {"t": json.dumps(TOOLS)}
        (partial,) = score_texts("tool_call", [hermes(call)], fields, partial=True, **tools)
        assert partial.value == pytest.approx(value, abs=1e-12)
        assert partial.note.startswith(note)
        (strict,) = score_texts("tool_call", [hermes(call)], fields, **tools)
        assert strict.value == float(value == 1)
    twice = hermes(call, call)
    assert values(score_texts("tool_call", [twice], tools=TOOLS, partial=True)) == [0]


def test_call_and_signature_together(score_texts: Scores) -> None:
    with_default = {"name": "weather", "arguments": {"city": "Paris", "days": 2, "unit": "C"}}
    fahrenheit = {"name": "weather", "arguments": {"city": "Paris", "days": 2, "unit": "F"}}
    texts = [hermes(WEATHER), hermes(with_default), hermes(fahrenheit)]
    assert values(score_texts("tool_call", texts, {"answer": WEATHER})) == [1, 0, 0]
    both = {"answer": "answer", "tools": "t"}
    assert values(score_texts("tool_call", texts, {"answer": WEATHER, "t": TOOLS}, **both)) == [1, 1, 0]


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"answer": "{"}, "row p, column 'answer': '{' is not JSON: Expecting property name"),
        ({"answer": {"arguments": {}}}, "row p, column 'answer': a call needs a \"name\""),
        ({"answer": WEATHER, "t": "["}, "row p, column 'answer', column 't': the tools are not JSON"),
        ({"answer": WEATHER, "t": [{"name": "now"}]}, "row p, column 'answer', column 't': the expected call breaks"),
        (
            {"answer": WEATHER, "t": [{"name": "weather", "parameters": {"type": "dict"}}]},
            "row p, column 'answer', column 't': the parameters of 'weather': not a JSON Schema",
        ),
        ({"answer": WEATHER, "t": None}, "row p has no reference: 't' is null"),
        ({"t": TOOLS}, "row p has no column 'answer'"),
    ],
)
def test_rows_that_cannot_be_judged(score_texts: Scores, fields: dict[str, Any], note: str) -> None:
    options = {"answer": "answer", "tools": "t"} if "t" in fields else {}
    (score,) = score_texts("tool_call", [hermes(WEATHER)], fields, **options)
    assert score.value is None
    assert score.note.startswith(note)


def test_references_reach_the_maximum(probe_reward: Callable[..., list[str]]) -> None:
    assert probe_reward("tool_call", {"answer": WEATHER}) == []
    assert probe_reward("tool_call", {"answer": []}) == []
    assert probe_reward("tool_call", {"answer": [WEATHER, WEATHER]}, syntax="openai") == []


def test_tool_call_is_gamed_by_a_sound_call_of_no_use(score_texts: Scores) -> None:
    useless = hermes({"name": "weather", "arguments": {"city": ""}})
    assert values(score_texts("tool_call", [useless], tools=TOOLS)) == [1]
    assert values(score_texts("tool_call", [useless], {"answer": WEATHER})) == [0]
    bare = hermes({"name": "weather", "arguments": {}})
    assert score_texts("tool_call", [bare], {"answer": WEATHER}, partial=True)[0].value == pytest.approx(1 / 3)


arguments = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2) | st.booleans() | st.text(max_size=2))


@given(arguments, arguments)
def test_credit_is_full_for_the_same_call_alone(first: dict[str, Any], second: dict[str, Any]) -> None:
    a, b = Call(name="f", arguments=first), Call(name="f", arguments=second)
    there, back = compare_call(a, b, {}), compare_call(b, a, {})
    assert there[0] == back[0]
    assert 1 / 3 <= there[0] <= 1
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (there == (1.0, "")) == same


@given(st.lists(arguments, min_size=1, max_size=4), st.randoms())
def test_the_order_of_calls_is_nothing(several: list[dict[str, Any]], random: Any) -> None:
    calls = [Call(name="f", arguments=one) for one in several]
    shuffled = random.sample(calls, len(calls))
    assert compare_calls(calls, shuffled, {}) == (1.0, "")
    for syntax in ("hermes", "openai", "json"):
        read = find_calls(write_calls(shuffled, syntax), syntax, "auto")
        assert compare_calls(calls, read, {}) == (1.0, "")
        assert compare_calls(calls, trusted_calls([{"name": "f", "arguments": one} for one in several]), {})[0] == 1.0


@settings(max_examples=300)
@given(st.lists(st.sampled_from(["<tool_call>", "</tool_call>", '{"name":"f",', '"arguments":{', "}", "[", "]", "x"])))
def test_no_text_does_more_than_be_wrong(pieces: list[str]) -> None:
    for syntax in ("auto", "hermes", "json", "openai"):
        calls, said = [], ""
        try:
            calls = find_calls("".join(pieces), syntax, "auto")
        except ValueError as error:
            said = str(error)
        assert bool(calls) != bool(said)  # a call, or a reason why there is none
        assert all(call.name == "f" for call in calls)


def test_hostile_text_is_wrong_in_bounded_time(score_texts: Scores) -> None:
    texts = [
        "<tool_call>" * 90_000,
        "</tool_call>" * 90_000,
        hermes(WEATHER) * 10_000,
        "<tool_call>" + "[" * 1_000_000 + "</tool_call>",
        '<tool_call>{"name": "weather", "arguments": {"days": ' + "9" * 100_000 + "}}</tool_call>",
        json.dumps([WEATHER] * 5_000),
        json.dumps(openai("weather", {"city": "[" * 400_000})),
        json.dumps({"name": "weather", "arguments": "[" * 400_000}),
        json.dumps({"name": "weather", "arguments": {str(i): i for i in range(60_000)}}),
        "\ud800" * 300_000,
        "\0" * 1_000_000,
    ]
    started = time.monotonic()
    fields = {"answer": WEATHER, "t": TOOLS}
    scores = score_texts("tool_call", texts, fields, answer="answer", tools="t", in_worker=True)
    assert {(score.value, score.status) for score in scores} == {(0.0, "scored")}
    assert time.monotonic() - started < 30
