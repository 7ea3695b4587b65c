"""Where an answer stands in a completion, and JSON read to the letter."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.reward.extract import MissingPlaceError, fenced_blocks, find_place, last_answer
from charter.reward.json_text import DEEPEST, find_json, load_json, nests_deeper, same_json


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("```json\n1\n```", [("json", "1\n")]),
        ("a\n```\n1\n```\nb\n```SQL x\n2\n```", [("", "1\n"), ("sql", "2\n")]),
        ("```\n1", []),  # never closed
        ("```\n1\n````", [("", "1\n")]),  # a longer fence closes
        ("````\n```\n1\n```\n````", [("", "```\n1\n```\n")]),  # a shorter one does not
        ("``` a`b\n1\n```", []),  # no fence opens with a backtick in its label; the last line then opens one
        ("x ```\n1\n```", []),  # not at the start of its line
        ("  ```\n1\n  ```  ", [("", "1\n")]),
        ("```\n```", [("", "")]),
        ("```json\n1\n```json\n2\n```", [("json", "1\n```json\n2\n")]),  # a fence with a label closes nothing
    ],
)
def test_fenced_blocks(text: str, blocks: list[tuple[str, str]]) -> None:
    assert fenced_blocks(text) == blocks


@pytest.mark.parametrize(
    ("text", "place", "found"),
    [
        ("t", "text", "t"),
        ("t", "auto", "t"),
        ("a <answer>b</answer> c <answer>d</answer> e", "answer", "d"),
        ("<answer>b</answer> <answer>cut", "answer", "b"),  # the last complete one
        ("</answer><answer>", "answer", None),
        ("t", "answer", None),
        ("t", "fence", None),
        ("<answer>\n```sql\nq\n```\n</answer>", "auto", "q\n"),
        ("```\nf\n```\n<answer>a</answer>", "auto", "a"),  # the answer counts before the fence
        ("```sql\nq\n```\n```python\np\n```", "fence", "q\n"),  # the last one in a language that was asked for
        ("```\nq\n```\n```python\np\n```", "fence", "p\n"),
    ],
)
def test_places(text: str, place: Any, found: str | None) -> None:
    if found is None:
        with pytest.raises(MissingPlaceError):
            find_place(text, place, ("sql",))
    else:
        assert find_place(text, place, ("sql",)) == found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ("[1,]", "Expecting value"),
        ('{"a": 1,}', "Expecting property name"),
        ("{'a': 1}", "Expecting property name"),
        ("// c\n1", "Expecting value"),
        ("1 2", "Extra data"),
        ('"\n"', "Invalid control character"),
        ("NaN", "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ("1e999", "beyond the largest number"),
        ("9" * 301, "a number of 301 characters; 300 at most"),
        ("1." + "9" * 300, "a number of 302 characters; 300 at most"),
        ('{"a": 1, "b": {"c": 1, "c": 1}}', "the key 'c' appears twice in one object"),
        ("[" * 50_000, "nested too deeply"),
        ('{"a":' * 50_000, "nested too deeply"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "nested too deeply"),
        ("\ufeff1", "Expecting value"),
        ("１", "Expecting value"),  # a digit, but not JSON's
        ("1" + " " * 1_000_000, "1000001 characters; 1000000 at most"),
    ],
)
def test_what_is_not_json(text: str, why: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match=why):
        load_json(text)
    assert time.process_time() - started < 2


def test_what_is_json() -> None:
    assert load_json(' {"a": [1, 2.5, "\\ud800", null, true]}\n') == {"a": [1, 2.5, "\ud800", None, True]}
    assert load_json("9" * 300) == int("9" * 300)
    assert nests_deeper('"[[[[" []', 1) is False
    assert nests_deeper('"\\"[[[[" [[', 1) is True  # the escaped quote does not end the string
    assert load_json("[" * DEEPEST + "]" * DEEPEST)


def test_auto_takes_the_whole_text_first() -> None:
    inner = json.dumps({"code": "```json\n1\n```", "html": "<answer>2</answer>"})
    assert find_json(inner, "auto") == json.loads(inner)
    assert find_json("So:\n```json\n1\n```", "auto") == 1


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        ("1", 1, False),
        (None, None, True),
        ({"a": 1, "b": [1, 2]}, {"b": [1.0, 2], "a": 1}, True),
        ([1, 2], [2, 1], False),
        ({"a": True}, {"a": 1}, False),
        (10**300, 10.0**300, False),  # a float that is near is not it
    ],
)
def test_equality_of_json(a: object, b: object, same: bool) -> None:
    assert same_json(a, b) is same
    assert same_json(b, a) is same


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(json_values)
def test_any_json_is_read_as_python_reads_it(value: Any) -> None:
    text = json.dumps(value)
    assert same_json(load_json(text), value)
    assert same_json(find_json(f"So:\n```json\n{text}\n```", "auto"), value)
    assert same_json(find_json(f"So: <answer>{text}</answer>.", "answer"), value) or "</answer>" in text


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='[]{}",:0 a\\`\n<>/answer', max_size=60))
def test_no_text_does_more_than_be_wrong(text: str) -> None:
    for place in ("auto", "text", "fence", "answer"):
        said = "read"
        try:
            find_json(text, place)
        except ValueError as error:
            said = str(error)
        assert said


@pytest.mark.parametrize(
    "piece", ["```\n", "`", "<answer>", "</answer>", "```a\nb\n", "\n", "<answer></answer>", "\0", '"\\']
)
def test_a_megabyte_is_searched_in_bounded_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    started = time.process_time()
    fenced_blocks(text)
    last_answer(text)
    nests_deeper(text, DEEPEST)
    assert time.process_time() - started < 5
