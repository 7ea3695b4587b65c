"""`format` and `xml_tags`."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.errors import UsageError
from charter.reward import load_reward
from charter.reward.tags import XmlTagsOptions, format_fault, tags_in_place
from charter.types import Score

Scores = Callable[..., list[Score]]


def values(scores: list[Score]) -> list[float | None]:
    return [score.value for score in scores]


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
        ("<think>a<answer>b</answer></think>", "<answer> comes before </think>"),
        ("</think>a<think><answer>b</answer>", "</think> comes before <think>"),
        ("hi <think>a</think><answer>b</answer>", "there is text before <think>"),
        ("<think>a</think> so <answer>b</answer>", "there is text before <answer>"),
        ("<think>a</think><answer>b</answer> bye", "there is text after </answer>"),
        ("<THINK>a</THINK><answer>b</answer>", "<think> is missing"),
        ("<think >a</think><answer>b</answer>", "<think> is missing"),
    ],
)
def test_format(score_texts: Scores, text: str, fault: str) -> None:
    assert format_fault(text, ["think", "answer"]) == fault
    (score,) = score_texts("format", [text])
    assert (score.value, score.note) == (0.0 if fault else 1.0, fault)


def test_format_options(score_texts: Scores) -> None:
    assert values(score_texts("format", ["a</think><answer>b</answer>", "<think>a"], opened=True)) == [1, 0]
    assert values(score_texts("format", ["<think>a</think><answer>b</answer>"], opened=True)) == [0]  # opened twice
    assert values(score_texts("format", ["<plan>x</plan>"], tags=["plan"])) == [1]
    with pytest.raises(UsageError, match="write it without < and >"):
        load_reward("format", tags=["<plan>"])
    with pytest.raises(UsageError, match="a tag is named twice"):
        load_reward("xml_tags", tags=["a", "a"])


def test_format_is_gamed_by_empty_tags_unless_they_must_be_filled(score_texts: Scores) -> None:
    empty, half = "<think></think><answer></answer>", "<think>x</think><answer> \n</answer>"
    assert values(score_texts("format", [empty, half])) == [1, 1]
    scores = score_texts("format", [empty, half, "<think>.</think><answer>.</answer>"], filled=True)
    assert values(scores) == [0, 0, 1]  # one full stop each still games it
    assert [score.note for score in scores] == ["<think> is empty", "<answer> is empty", ""]


@given(st.text(alphabet="ab <>/", max_size=12), st.text(alphabet="ab \n", max_size=12), st.text(max_size=5))
def test_a_well_formed_text_has_no_fault_and_anything_around_it_is_one(think: str, answer: str, junk: str) -> None:
    text = f"<think>{think}</think><answer>{answer}</answer>"
    assert format_fault(text, ["think", "answer"]) == ""
    if junk.strip():
        assert format_fault(text + junk, ["think", "answer"])
        assert format_fault(junk + text, ["think", "answer"])


@pytest.mark.parametrize(
    ("text", "placed", "fault"),
    [
        ("x <a>1</a> y <b>2</b> z <c>3</c>", 3, ""),
        ("", 0, "<a> is missing"),
        ("<a>1</a><b>2</b>", 2, "<c> is missing"),
        ("<a>1</a><b>2</b><c>3", 2, "</c> is missing"),
        ("<a>1</a><a>1</a><b>2</b><c>3</c>", 2, "<a> appears 2 times"),
        ("</a><a><b>2</b><c>3</c>", 2, "</a> comes before <a>"),
        ("<b>2</b><a>1</a><c>3</c>", 2, "<b> overlaps another tag or is out of order"),
        ("<b>2</b><c>3</c><a>1</a>", 2, "<a> overlaps another tag or is out of order"),  # b c is the longest row
        ("<c>3</c><b>2</b><a>1</a>", 1, "<b> overlaps another tag or is out of order"),
        ("<a>1<b>2</a></b><c>3</c>", 2, "<b> overlaps another tag or is out of order"),  # crossed
        ("<a><b>2</b><c>3</c></a>", 2, "<a> overlaps another tag or is out of order"),  # a encloses both
        ("<a x='1'>1</a><b>2</b><c>3</c>", 2, "<a> is missing"),
    ],
)
def test_xml_tags(score_texts: Scores, text: str, placed: int, fault: str) -> None:
    options = XmlTagsOptions(tags=["a", "b", "c"])
    assert tags_in_place(text, options) == (placed, fault)
    (strict,) = score_texts("xml_tags", [text], tags=["a", "b", "c"])
    (partial,) = score_texts("xml_tags", [text], tags=["a", "b", "c"], partial=True)
    assert (strict.value, strict.note) == (0.0 if fault else 1.0, fault)
    assert partial.value == pytest.approx(placed / 3, abs=1e-12)


def test_xml_tags_options(score_texts: Scores) -> None:
    swapped, crossed = "<b>2</b> <a>1</a>", "<a>1<b>2</a></b>"
    assert values(score_texts("xml_tags", [swapped, crossed], tags=["a", "b"], ordered=False)) == [1, 0]
    around = ["<a>1</a>\n<b>2</b>", "so <a>1</a><b>2</b>", "<a>1</a>,<b>2</b>", "<a>1</a><b>2</b>."]
    assert values(score_texts("xml_tags", around, tags=["a", "b"])) == [1, 1, 1, 1]
    assert values(score_texts("xml_tags", around, tags=["a", "b"], alone=True)) == [1, 0, 0, 0]
    assert values(score_texts("xml_tags", around, tags=["a", "b"], alone=True, partial=True)) == [1, 0.5, 0.5, 0.5]
    hollow = ["<a> </a><b>2</b>", "<a>1</a><b>2</b>"]
    assert values(score_texts("xml_tags", hollow, tags=["a", "b"], filled=True, partial=True)) == [0.5, 1]


def test_xml_tags_are_gamed_by_hollow_ones_and_by_quoting_the_form(score_texts: Scores) -> None:
    said = "The form asks for <a></a> and <b></b>, which I will not fill."
    assert values(score_texts("xml_tags", [said], tags=["a", "b"])) == [1]
    assert values(score_texts("xml_tags", [said], tags=["a", "b"], alone=True)) == [0]
    assert values(score_texts("xml_tags", [said], tags=["a", "b"], filled=True)) == [0]


@given(st.permutations(["a", "b", "c", "d"]), st.sets(st.sampled_from("abcd")))
def test_the_longest_row_is_what_a_search_of_all_rows_finds(order: list[str], left_out: set[str]) -> None:
    here = [tag for tag in order if tag not in left_out]
    text = " ".join(f"<{tag}>.</{tag}>" for tag in here)
    rows = [row for n in range(5) for row in itertools.combinations(here, n) if list(row) == sorted(row)]
    placed, fault = tags_in_place(text, XmlTagsOptions(tags=["a", "b", "c", "d"]))
    assert placed == max(map(len, rows))
    assert (fault == "") == (here == ["a", "b", "c", "d"])


@pytest.mark.parametrize("name", ["format", "xml_tags"])
def test_references_reach_the_maximum_and_nothing_does_not(probe_reward: Callable[..., Any], name: str) -> None:
    options = {"tags": ["think", "answer"], "filled": True}
    assert probe_reward(name, **options) == []
    assert probe_reward("format", opened=True) == []


@pytest.mark.parametrize("piece", ["<think>", "</think>", "<think></think><answer></answer>", "<", "\0", "\ud800"])
def test_a_megabyte_is_wrong_in_bounded_time(score_texts: Scores, piece: str) -> None:
    text, started = piece * (1_000_000 // len(piece)), time.process_time()
    assert values(score_texts("format", [text])) == [0]
    assert values(score_texts("xml_tags", [text], tags=["think", "answer"], partial=True)) == [0]
    assert time.process_time() - started < 3
