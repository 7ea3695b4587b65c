"""The course of a run on a terminal and in a log: what is said, how wide, and never an escape code in a log."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.cli.display import (
    BARS,
    Course,
    Display,
    Facts,
    LiveDisplay,
    PlainDisplay,
    choose_display,
    clean,
    duration,
    line,
    sparkline,
    wants_plain,
)
from charter.run.diagnose import Finding
from charter.types import Update

FACTS = Facts(name="quickstart", method="grpo", model="smollm2-135m", steps=100, folder="runs/quickstart")
METRICS = {
    "reward": 0.53125, "reward_std": 0.25, "groups/signal": 0.75, "completions/mean_length": 12.34,
    "completions/clipped_ratio": 0.1, "tokens_per_s/sample": 812.4, "tokens_per_s/learn": 1203.0, "time/step_s": 3.0,
}  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def update(step: int, **more: float) -> Update:
    return Update(step=step, version=step, metrics={**METRICS, **{k.replace("__", "/"): v for k, v in more.items()}})


def test_a_step_is_one_line() -> None:
    out = io.StringIO()
    display = PlainDisplay(out)
    display.start(FACTS)
    display.update(update(7))
    assert out.getvalue().splitlines() == [
        "quickstart: grpo on smollm2-135m, 100 steps → runs/quickstart",
        "step   7/100  reward  0.531 ±0.250  signal  75%  length   12.3  tok/s   812 + 1203    3.0 s/step  left 4m39s",
    ]  # 93 steps of 3 s are 279 s


def test_a_run_that_a_budget_ends_is_told_no_last_step_and_no_time_left() -> None:
    out = io.StringIO()
    display = PlainDisplay(out)
    display.start(replace(FACTS, steps=10_000, budgeted=True))
    display.update(update(7))
    assert out.getvalue().splitlines() == [
        "quickstart: grpo on smollm2-135m, until its budget is spent → runs/quickstart",
        "step    7  reward  0.531 ±0.250  signal  75%  length   12.3  tok/s   812 + 1203    3.0 s/step",
    ]


def test_lines_are_aligned() -> None:
    out = io.StringIO()
    display = PlainDisplay(out)
    display.start(FACTS)
    display.update(update(7))
    display.update(
        update(100, reward=-0.25, groups__signal=1.0, completions__mean_length=250.0, tokens_per_s__sample=9.0)
    )
    lines = out.getvalue().splitlines()[1:]
    for word in ("reward", "signal", "length", "tok/s", "/step", "left"):
        assert lines[0].index(word) == lines[1].index(word), word


def test_imitation_shows_its_loss() -> None:
    course = Course(Facts(name="s", method="sft", model="m", steps=5))
    course.add(Update(step=2, version=2, metrics={"loss": 1.25, "time/step_s": 1.0}))
    text = line(course)
    assert "loss   1.2500" in text
    assert "reward" not in text


def test_held_out_accuracy_has_a_line_of_its_own() -> None:
    out = io.StringIO()
    display = PlainDisplay(out)
    display.start(FACTS)
    display.update(update(1, eval__accuracy=0.8125, eval__accuracy_low=0.7, eval__accuracy_high=0.9))
    display.update(update(2))
    held = [text for text in out.getvalue().splitlines() if "held-out" in text]
    assert held == ["     held-out accuracy 81.2% [70.0%, 90.0%]"]


def test_the_evaluation_before_the_first_step_is_no_step() -> None:
    """It says the accuracy and nothing of a reward, and its time is not taken for a step's."""
    out = io.StringIO()
    display = PlainDisplay(out)
    display.start(FACTS)
    accuracy = {"eval/accuracy": 0.125, "eval/accuracy_low": 0.05, "eval/accuracy_high": 0.25}
    display.update(Update(step=0, version=0, metrics=accuracy))
    display.update(update(1))
    lines = out.getvalue().splitlines()[1:]
    assert lines[0] == "     held-out accuracy 12.5% [5.0%, 25.0%]"
    assert lines[1].endswith("3.0 s/step  left 4m57s")


numbers = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-10, 10_000)


@given(st.fixed_dictionaries(dict.fromkeys(METRICS, numbers)), st.integers(1, 10**7))
def test_lines_are_short_and_plain_whatever_the_numbers(metrics: dict[str, float], step: int) -> None:
    out = io.StringIO()
    display = PlainDisplay(out)
    display.start(Facts(name="r", method="grpo", model="m", steps=10**7))
    display.update(Update(step=step, version=1, metrics=metrics))
    for text in out.getvalue().splitlines():
        assert len(text) < 120
        assert text.isprintable()


def test_findings_and_the_end_are_said_without_control_characters() -> None:
    out = io.StringIO()
    display = PlainDisplay(out)
    display.start(FACTS)
    display.findings([Finding(step=1, name="x", sentence="bad \x1b[31mred", advice="do this")])
    display.finish("done")
    display.finish("done")
    assert out.getvalue().splitlines()[1:] == ["  !  bad \\x1b[31mred", "     do this", "done"]


def test_a_stream_that_cannot_write_the_signs() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    display = PlainDisplay(out)
    display.start(FACTS)
    display.update(update(1))
    assert b"0.531 ?0.250" in raw.getvalue()


def test_an_update_before_the_start_is_shown() -> None:
    out = io.StringIO()
    PlainDisplay(out).update(update(3))
    assert out.getvalue().startswith("step 3/3  reward  0.531")


@pytest.mark.parametrize(
    ("environment", "plain", "expected"),
    [
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, False, True),
        ({"TERM": "xterm", "CI": "true"}, False, True),
        ({"TERM": "xterm", "CI": "false"}, False, False),
        ({"TERM": "xterm"}, True, True),
    ],
)
def test_who_gets_lines(environment: dict[str, str], plain: bool, expected: bool) -> None:
    assert wants_plain(Terminal(), plain=plain, environment=environment) is expected
    chosen = choose_display(Terminal(), plain=plain, environment=environment)
    assert isinstance(chosen, PlainDisplay if expected else LiveDisplay)
    assert isinstance(chosen, Display)


def test_a_pipe_gets_lines() -> None:
    assert wants_plain(io.StringIO(), environment={"TERM": "xterm"})


def live(environment: dict[str, str]) -> str:
    out = Terminal()
    clock = iter(range(1000))
    display = LiveDisplay(out, clock=lambda: float(next(clock)), environment=environment)
    display.start(FACTS)
    for step in range(1, 6):
        display.update(update(step, reward=step / 10))
    display.update(update(6, reward=0.6, eval__accuracy=0.5))
    display.findings([Finding(step=6, name="x", sentence="Look here.", advice="Do that.")])
    display.finish("The end.")
    display.finish("The end.")
    return out.getvalue()


def test_the_panel_shows_the_run() -> None:
    text = live({"TERM": "xterm"})
    for part in (
        "quickstart · grpo · smollm2-135m", "6/100", "0.600 ± 0.250", "▁▂▄▅▇█", "75%", "12.3 tokens", "812 sampling",
        "1,203 learning", "3.0 s per step", "4m42s left", "50.0% (step 6)", "Look here.", "Do that.",
    ):  # fmt: skip
        assert part in text, part
    assert text.count("The end.") == 1
    assert "\x1b[3" in text  # coloured


def test_no_color_is_respected() -> None:
    text = live({"TERM": "xterm", "NO_COLOR": "1"})
    assert "0.600 ± 0.250" in text
    assert not [code for code in range(30, 48) if f"\x1b[{code}m" in text or f";{code}m" in text]


def test_sparkline() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == BARS
    assert sparkline([1, 1, 1]) == "▄▄▄"
    assert sparkline([0, 0, 4, 4], width=2) == "▁█"
    assert sparkline([]) == sparkline([math.nan]) == sparkline([1.0], width=0) == ""


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=200), st.integers(1, 50))
def test_sparklines_are_as_wide_as_asked(values: list[float], width: int) -> None:
    text = sparkline(values, width)
    assert len(text) == min(len(values), width)
    assert set(text) <= set(BARS)


def test_durations() -> None:
    assert [duration(s) for s in (0.04, 3.21, 60, 252.4, 7500, math.nan)] == [
        "0.0 s",
        "3.2 s",
        "1m00s",
        "4m12s",
        "2h05m",
        "—",
    ]


def test_control_characters_are_shown() -> None:
    assert clean("a\x1b[2Jb\r\n\tc\u202e é 日") == "a\\x1b[2Jb\\x0d\n\tc\\x202e é 日"


def test_importing_it_is_light() -> None:
    code = "import sys, charter.cli.display; print([m for m in ('torch', 'rich', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
