"""`math`: which answer counts, what is equal, and that no text or reference gets past it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.reward import as_group, load_reward
from charter.reward.math import MathReward, compare_numbers
from charter.reward.math_answer import TooMuchWorkError, cpu_budget, judge_one, open_judge, verdict
from charter.reward.math_statement import boxes, statement
from charter.reward.pool import WorkerTimeoutError
from charter.types import Prompt, Score


@pytest.fixture(scope="module")
def reward() -> Iterator[MathReward]:
    made = load_reward("math", timeout_s=2.0)
    assert isinstance(made, MathReward)
    yield made
    made.shut_down()


def prompt(answer: object, name: str = "row-7") -> Prompt:
    return Prompt(id=name, messages=({"role": "user", "content": "?"},), fields={"answer": answer})


def scores(reward: MathReward, answer: object, *texts: str) -> list[Score]:
    return list(asyncio.run(reward.score(as_group(prompt(answer), texts))))


RIGHT = [
    ("122", "122"),
    ("122", "59+63=122"),
    ("122", "59 + 63 = 122."),
    ("122", "The answer is 122."),
    ("122", "The answer to 59 + 63 is 122."),
    ("122", "**Answer:** 122"),
    ("122", "Answer:\n\n122"),
    ("122", "The answer is 121. No, the answer is 122."),
    (122, "the answer is $122$"),
    ("42", r"\boxed{41} was wrong, so \boxed{42}"),
    ("42", r"\boxed{\text{42}}"),
    ("-5", "x = \u22125"),
    ("1,234", "The answer is $1,234$."),
    ("so 9*2=<<9*2=18>>18\n#### 18", "He has 18 left.\n#### 18"),
    ("0.5", "1/2"),
    (r"\frac{3}{4}", "0.75"),
    (r"$\frac{1}{2}$", r"\boxed{\frac{2}{4}}"),
    (r"\sqrt{2}", r"$\sqrt2$"),
    ("x+1", r"\boxed{1+x}"),
    ("1, 2", r"The solutions are $1$ and $2$"),
    ("1024", r"$2^{10}$"),
    ("100000", "1e5"),
    ("42", "The final answer is:\n\n$$\n42\n$$\nI hope it helps."),
    ("x+1", "So we have\n\\[\nx + 1\n\\]"),
    ("10%", "10%"),
    ("122", "Answer: we add 59 and 63 to get 122."),
    ("122", "The answer is 122, the sum of 59 and 63."),
    ("122", "Adding 59 and 63 gives 122"),
    ("7", "é \ud800 日本 7"),
]
WRONG = [
    ("122", ""),
    ("122", "122 or 123"),
    ("123", "122 or 123"),
    ("122", "The answer is 122 or 123"),
    ("41", "41, 42 or 43"),
    ("42", "41, 42 or 43"),
    ("43", "41, 42 or 43"),
    ("43", "41, 42, 43"),
    ("42", r"\boxed{41, 42 or 43}"),
    ("42", r"$\boxed{41}$ or $\boxed{42}$"),
    ("41", r"$\boxed{41}$ or $\boxed{42}$"),
    ("42", "41 or maybe $42$"),
    ("42", "$41$ or $42$"),
    ("122", "The answer is either 122 or 123."),
    ("123", "Answer: it is 122 or 123"),
    ("123", "Answer: 59 + 63 = 122 or 123"),
    ("122", "59+63"),  # the question handed back
    ("122", r"\boxed{59+63}"),
    ("24", "12*2"),
    ("1", "1e5"),
    ("42", r"\boxed{42} no, \boxed{43}"),
    ("122", "I do not know"),
]


@pytest.mark.parametrize(("gold", "text"), RIGHT)
def test_right(reward: MathReward, gold: object, text: str) -> None:
    (score,) = scores(reward, gold, text)
    assert (score.value, score.status) == (1.0, "scored"), score.note


@pytest.mark.parametrize(("gold", "text"), WRONG)
def test_wrong(reward: MathReward, gold: object, text: str) -> None:
    (score,) = scores(reward, gold, text)
    assert (score.value, score.status) == (0.0, "scored")
    assert score.note


FRACTION = "\\frac{1}{1+"
HOSTILE = {
    "digits": "9" * 100_000,
    "boxed digits": r"\boxed{" + "9" * 100_000 + "}",
    "braces": "{" * 50_000,
    "boxes": r"\boxed{" * 50_000,
    "nested": r"\boxed{" * 20_000 + "}" * 20_000,
    "open fractions": r"\frac{" * 50_000,
    "nested fractions": r"\boxed{" + FRACTION * 5000 + "x" + "}" * 5001,
    "dollars": "$" * 50_000,
    "brackets": "(" * 50_000,
    "sum": "1+" * 500_000,
    "answers": "answer " * 100_000,
    "anchors": "answer is " * 100_000,
    "megabyte": "no " * 350_000,
    "megabyte of LaTeX": r"\boxed{" + r"\frac{1}{2}+\sqrt{3} " * 50_000 + "}",
    "tower": r"$10^{10^{10^{10}}}$",
    "tower of nines": r"\boxed{9^{9^{9^9}}}",
    "powers": "9**9**9**9",
    "power of a power": r"\boxed{((2^{999})^{999})^{999}}",
    "exponent": r"\boxed{2^{99999999999}}",
    "e-notation": r"\boxed{1e999999999}",
    "factorial": r"\boxed{99999999!}",
    "factorials": r"\boxed{((9!)!)!}",
    "binomial": r"\boxed{\binom{100000000}{50000000}}",
    "sum to a billion": r"\boxed{\sum_{n=1}^{10^{9}} n^n}",
    "integral": r"\boxed{\int_0^1 e^{-x^2}\sin(x^x) dx}",
    "underbraces": r"\boxed{" + r"\underbrace{x}_{" * 5000 + "}" * 5001,
    "null bytes": "\x00" * 100_000,
    "surrogates": "\ud800" * 100_000,
    "bars": r"\boxed{" + "|" * 1900 + "}",
    "subscripts": r"\boxed{" + "x_" * 900 + "}",
    "carets": r"\boxed{" + "^" * 1900 + "}",
    "open parentheses": r"\boxed{" + "(" * 39 + "1" + ")" * 39 + "+0}",
    "alternatives": "1 or " * 100_000,
    "tags": "<answer>" * 50_000 + "</answer>" * 50_000,
    "lines": "\n1" * 300_000,
    "environments": r"\begin{pmatrix}" * 50_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_wrong_in_bounded_time(reward: MathReward, name: str) -> None:
    started = time.monotonic()
    (score,) = scores(reward, "122", HOSTILE[name])
    assert (score.value, score.status) == (0.0, "scored"), score.note
    assert (
        time.monotonic() - started < 40.0
    )  # 2 s of limit, perhaps a second try; the strict bound is on CPU time, below


def test_no_hostile_text_takes_more_than_its_cpu_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.3 s of CPU time each: the rule that needs no quiet machine."""
    # the limit may be reached in a gc hook, where Python drops it and it comes again; pytest's own hook, which takes
    # long enough to meet that next time, would fail the test for it
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    open_judge({})  # the parser is built before the clock runs, as in a worker
    assert judge_one({"answer": r"\sqrt{2}+x", "text": "0", "cpu_s": 5.0})["value"] == 0.0
    for name, text in HOSTILE.items():
        started = time.process_time()
        assert judge_one({"answer": r"\sqrt{2}+x", "text": text, "cpu_s": 0.3})["value"] == 0.0, name
        assert time.process_time() - started < 1.3, name


def test_an_answer_beyond_a_bound_says_which_and_the_next_is_scored(reward: MathReward) -> None:
    huge, quick = scores(reward, "122", r"$10^{10^{10^{10}}}$", "so 122")
    assert huge.note.startswith("not parsed: a power of more than 200000 digits; stated ")
    assert quick.value == 1.0


def test_an_answer_over_its_cpu_time_is_wrong_and_the_worker_lives(reward: MathReward) -> None:
    scores(reward, "122", r"\sqrt{122^2}")
    before = set(reward.pool.pids())
    (slow,) = scores(reward, "122", HOSTILE["bars"])
    assert (slow.value, slow.note) == (0.0, "the completion needs more than 1 s of CPU time to compare")
    assert before <= set(reward.pool.pids())


def test_time_on_the_clock_alone_is_no_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that sleeps (as one does on a busy machine) uses the clock but no CPU: the reward fails."""
    made = load_reward("math", timeout_s=0.4)
    assert isinstance(made, MathReward)

    async def starved(*_: object, **__: object) -> object:
        raise WorkerTimeoutError("took longer than 0.4 s")

    monkeypatch.setattr(made.pool, "run", starved)
    (score,) = scores(made, "122", r"\boxed{\sqrt{122^2}}")
    made.shut_down()
    assert (score.value, score.status) == (None, "failed")
    assert "no verdict within 0.4 s" in score.note
    assert "the machine is too busy" in score.note


def spin() -> None:
    while True:
        pass


def test_cpu_budget_does_not_count_waiting() -> None:
    with cpu_budget(0.05):
        time.sleep(0.2)
    with pytest.raises(TooMuchWorkError), cpu_budget(0.05):
        spin()


def test_a_parser_cannot_swallow_the_end_of_its_budget() -> None:
    stops = 0

    def swallow() -> None:
        nonlocal stops
        while stops < 3:
            try:
                spin()
            except TooMuchWorkError:
                stops += 1
        spin()

    with pytest.raises(TooMuchWorkError), cpu_budget(0.02):
        swallow()
    assert stops == 3


@pytest.mark.parametrize("code", ["__import__('os').system('touch {}')", "open('{}','w').write('x')"])
def test_code_in_an_answer_is_not_run(reward: MathReward, tmp_path: Path, code: str) -> None:
    written = tmp_path / "written"
    code = code.replace("{}", str(written))
    forms = (code, f"\\boxed{{{code}}}", f"<answer>{code}</answer>", f"The answer is {code}", f"${code}$")
    assert [s.value for s in scores(reward, "122", *forms)] == [0.0] * len(forms)
    assert not written.exists()


@pytest.mark.parametrize("gold", [r"\frac{", "", "#### ", [1], True, {"a": 1}, "9" * 5000])
def test_a_bad_reference_fails_and_names_the_row(reward: MathReward, gold: object) -> None:
    for score in scores(reward, gold, "so 3", "x"):
        assert (score.value, score.status) == (None, "failed")
        assert "row row-7" in score.note
        assert "'answer'" in score.note


def test_no_reference_abstains_and_no_column_fails(reward: MathReward) -> None:
    (score,) = scores(reward, None, "3")
    assert (score.value, score.status) == (None, "abstained")
    bare = Prompt(id="p", messages=(), fields={"gold": 3})
    (score,) = asyncio.run(reward.score(as_group(bare, ["3"])))
    assert score.status == "failed"
    assert score.note == "row p has no column 'answer' (its columns: 'gold')"


number = st.one_of(
    st.integers(-(10**12), 10**12).map(str),
    st.decimals(-1000, 1000, places=4, allow_nan=False).map(lambda d: format(d, "f")),
    st.sampled_from(["0", "-0", "007", "1.0", "0.10", "9" * 30, "9" * 29 + "8", "0." + "1" * 30]),
)


@settings(max_examples=150, deadline=None)
@given(number, number, st.booleans())
def test_the_short_cut_agrees_with_the_full_comparison(gold: str, text: str, same: bool) -> None:
    text = gold if same else text
    quick = compare_numbers(gold, f" {text}\n")
    if quick is not None:
        assert verdict(gold, text)["value"] == quick
        if Fraction(gold) == Fraction(text):
            assert quick == 1.0


@pytest.mark.parametrize("text", ["1" * 31, "1." + "1" * 31, "+1", "1e3", "\u0661", "1 2", "", "1.", ".5", "1\n2"])
def test_the_short_cut_is_strictly_bounded(text: str) -> None:
    assert compare_numbers("1", text) is None


def test_boxes_are_matched_by_their_braces() -> None:
    assert [b[2] for b in boxes(r"a \boxed{1} b \boxed{\frac{1}{2}} \boxed{3")] == ["1", r"\frac{1}{2}"]
    assert [b[2] for b in boxes(r"\boxed{1 \boxed{2} 3}")] == [r"1 \boxed{2} 3"]
    assert [b[2] for b in boxes(r"\boxed{\{1, 2\}}")] == [r"\{1, 2\}"]


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from(list("\\{}$ 0123456789boxed,.=or answeris\n")), max_size=80))
def test_reading_a_statement_never_raises(text: str) -> None:
    assert isinstance(statement(text), str)


def test_the_reference_is_right_and_an_empty_text_is_not(reward: MathReward) -> None:
    from charter.reward import probe

    golds = ["122", r"\frac{1}{2}", "#### 1,234", "$x+1$", "-3", 7, 0.25]
    assert asyncio.run(probe(reward, [prompt(g, f"p{i}") for i, g in enumerate(golds)])) == []
