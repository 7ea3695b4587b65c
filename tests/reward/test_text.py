"""`exact` and `regex`."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from charter.errors import UsageError
from charter.reward import load_reward
from charter.types import Score

Scores = Callable[..., list[Score]]


def values(scores: list[Score]) -> list[float | None]:
    return [score.value for score in scores]


def test_exact(score_texts: Scores) -> None:
    texts = ["Paris", " Paris\n", "paris", "Paris.", "", "\ud800"]
    assert values(score_texts("exact", texts, {"answer": "Paris"})) == [1, 1, 0, 0, 0, 0]
    assert values(score_texts("exact", texts, {"answer": "Paris"}, strip=False)) == [1, 0, 0, 0, 0, 0]
    assert values(score_texts("exact", texts, {"answer": "Paris"}, case=False)) == [1, 1, 1, 0, 0, 0]
    assert values(score_texts("exact", texts, {"gold": ["Rome", "paris"]}, answer="gold")) == [0, 0, 1, 0, 0, 0]
    assert values(score_texts("exact", ["42"], {"answer": 42})) == [1]
    assert values(score_texts("exact", ["STRASSE"], {"answer": "straße"}, case=False)) == [1]
    assert score_texts("exact", ["x"], {"answer": None})[0].status == "abstained"
    assert score_texts("exact", ["x"], {"answer": []})[0].note.startswith("row p: column 'answer' holds []; expected")
    assert values(score_texts("exact", ["x", "None"], {"answer": ["x", None]})) == [1, 0]
    assert score_texts("exact", ["x"], {})[0].note == "row p has no column 'answer' (its columns: none)"


def test_regex(score_texts: Scores) -> None:
    texts = ["order 66", "66", "6\n6", ""]
    assert values(score_texts("regex", texts, pattern=r"\d\d")) == [1, 1, 0, 0]
    assert values(score_texts("regex", texts, pattern=r"\d\d", match="fullmatch")) == [0, 1, 0, 0]
    assert values(score_texts("regex", texts, pattern=r"6.6", dotall=True)) == [0, 0, 1, 0]
    assert values(score_texts("regex", texts, pattern=r"ORDER", ignore_case=True)) == [1, 0, 0, 0]
    assert values(score_texts("regex", texts, pattern=r"^6$", multiline=True)) == [0, 0, 1, 0]


def test_a_pattern_that_explodes_is_a_wrong_answer_in_bounded_time(score_texts: Scores) -> None:
    started = time.monotonic()
    slow, quick = score_texts("regex", ["a" * 60 + "!", "aaa"], pattern=r"^(a+)+$", timeout_s=0.5, in_worker=True)
    assert (slow.value, slow.status, slow.note) == (0.0, "scored", "the completion did not parse within 0.5 s")
    assert quick.value == 1.0
    assert time.monotonic() - started < 6


def test_a_pattern_must_be_one() -> None:
    with pytest.raises(UsageError, match="is not a regular expression: missing"):
        load_reward("regex", pattern="(")


def test_regex_is_gamed_by_writing_every_alternative(score_texts: Scores) -> None:
    every = "A B C D"
    assert values(score_texts("regex", [every], pattern=r"\b[B]\b")) == [1]
    assert values(score_texts("regex", [every, "B"], pattern=r"\s*B\s*", match="fullmatch")) == [0, 1]


def test_exact_is_gamed_by_the_most_frequent_answer(score_texts: Scores) -> None:
    answers = ["yes", "no", "yes", "yes"]
    assert sum(values(score_texts("exact", ["yes"], {"answer": a}))[0] or 0 for a in answers) == 3


@pytest.mark.parametrize("text", ["a" * 1_000_000, "\ud800" * 300_000, "\0" * 1_000_000, "9" * 100_000])
def test_a_megabyte_is_matched_in_bounded_time(score_texts: Scores, text: str) -> None:
    started = time.monotonic()
    assert values(score_texts("regex", [text], pattern=r"^(a|b)?c")) == [0]
    assert values(score_texts("exact", [text], {"answer": "x"}, case=False)) == [0]
    assert time.monotonic() - started < 5
