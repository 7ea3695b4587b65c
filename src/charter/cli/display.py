"""A run as it happens: one live panel on a terminal, one line per step everywhere else.

Light to import: rich is loaded only by the live display.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TextIO, runtime_checkable

if TYPE_CHECKING:
    from charter.run.diagnose import Finding
    from charter.types import Update

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 119
"""Longest line of the plain display, in characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a display says before the first step.

    name: of the run. method, model: of the recipe. steps: last step. folder: where the run is written. first: step
    the run begins with (larger than 1 when resumed). budgeted: whether a budget ends the run, long before `steps`.
    """

    name: str
    method: str
    model: str
    steps: int
    folder: str = ""
    first: int = 1
    budgeted: bool = False


@runtime_checkable
class Display(Protocol):
    """Where the course of a run is shown."""

    def start(self, facts: Facts) -> None:
        """Say what begins."""
        ...

    def update(self, update: Update) -> None:
        """Show a finished step."""
        ...

    def findings(self, findings: Sequence[Finding]) -> None:
        """Show what should be known."""
        ...

    def finish(self, message: str = "") -> None:
        """Say how it ended and leave the terminal as it was; calling it again does nothing."""
        ...


def sparkline(values: Sequence[float], width: int = 30) -> str:
    """Values as a row of bars, the lowest ▁ and the highest █; more values than width are averaged in equal parts.

    Numbers that are not finite are left out; values that are all equal stand in the middle.
    """
    # Values near the largest float would overflow in a sum or a difference; at this height nobody sees it.
    finite = [min(max(value, -1e300), 1e300) for value in values if math.isfinite(value)]
    if not finite or width < 1:
        return ""
    count = min(width, len(finite))
    edges = [round(i * len(finite) / count) for i in range(count + 1)]
    means = [math.fsum(finite[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    if high == low:
        return BARS[3] * count
    return "".join(BARS[min(7, int((value - low) / (high - low) * 8))] for value in means)


def duration(seconds: float) -> str:
    """3.2 s, 4m12s, 2h05m: a time a person reads at a glance."""
    if not math.isfinite(seconds):
        return "—"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def _number(metrics: Mapping[str, Any], name: str, form: str) -> str:
    value = metrics.get(name)
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "—"
    return format(value, form)


def clean(text: str) -> str:
    """Text from a model or a reward, safe on a terminal: control characters are shown, not obeyed."""

    def shown(c: str) -> bool:
        return c in "\n\t" or c.isprintable() or unicodedata.category(c) == "Zs"

    return "".join(c if shown(c) else f"\\x{ord(c):02x}" for c in text)


class Course:
    """What both displays remember of a run: the rewards so far, the newest numbers, the time a step takes."""

    def __init__(self, facts: Facts, clock: Callable[[], float] = time.perf_counter) -> None:
        self.facts = facts
        self.clock = clock
        self.began = self.last = clock()
        self.step = facts.first - 1
        self.metrics: Mapping[str, float] = {}
        self.trained = False  # whether the newest numbers are a training step's, or an evaluation's alone
        self.rewards: list[float] = []
        self.held_out: list[tuple[int, float]] = []
        self._seconds: deque[float] = deque(maxlen=10)

    def add(self, update: Update) -> None:
        now = self.clock()
        self.trained = any(not name.startswith(("eval/", "accuracy/")) for name in update.metrics)
        if self.trained:
            self._seconds.append(float(update.metrics.get("time/step_s", now - self.last)))
        self.last = now
        self.step = update.step
        self.metrics = update.metrics
        curve = update.metrics.get("reward", update.metrics.get("loss"))
        if curve is not None:
            self.rewards.append(float(curve))
        if "eval/accuracy" in update.metrics:
            self.held_out.append((update.step, float(update.metrics["eval/accuracy"])))

    @property
    def step_s(self) -> float:
        """Seconds per step: mean of the last ten."""
        return math.fsum(self._seconds) / len(self._seconds) if self._seconds else math.nan

    @property
    def eta_s(self) -> float:
        """Seconds to the last step at that pace; not known where a budget ends the run."""
        return math.nan if self.facts.budgeted else self.step_s * max(0, self.facts.steps - self.step)

    def accuracy(self) -> str:
        """The newest held-out accuracy with its interval, or nothing in a step without one."""
        if "eval/accuracy" not in self.metrics:
            return ""
        low, high = (_number(self.metrics, f"eval/accuracy_{end}", ".1%") for end in ("low", "high"))
        return f"{_number(self.metrics, 'eval/accuracy', '.1%')} [{low}, {high}]"


def line(course: Course) -> str:
    """One finished step in one line, in columns, shorter than 120 characters and without escape codes."""
    m, facts = course.metrics, course.facts
    digits = len(str(facts.steps))
    cells = [f"step {course.step:>4}" if facts.budgeted else f"step {course.step:>{digits}}/{facts.steps}"]
    if "reward" in m or "completions/mean_length" in m:
        cells += [
            f"reward {_number(m, 'reward', '.3f'):>6} ±{_number(m, 'reward_std', '.3f'):<5}",
            f"signal {_number(m, 'groups/signal', '.0%'):>4}",
            f"length {_number(m, 'completions/mean_length', '.1f'):>6}",
            f"tok/s {_number(m, 'tokens_per_s/sample', '.0f'):>5} + {_number(m, 'tokens_per_s/learn', '.0f'):<5}",
        ]
    else:
        cells += [
            f"loss {_number(m, 'loss', '.4f'):>8}",
            f"tok/s {_number(m, 'tokens_per_s/learn', '.0f'):>6}",
        ]
    cells.append(f"{duration(course.step_s):>6}/step")
    if not facts.budgeted:
        cells.append(f"left {duration(course.eta_s)}")
    return "  ".join(cells)[:WIDTH].rstrip()


class PlainDisplay:
    """Lines, for logs, pipes and terminals that cannot do more."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._course: Course | None = None
        self._finished = False

    def _say(self, text: str) -> None:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
        self._stream.flush()

    def start(self, facts: Facts) -> None:
        self._course = Course(facts, self._clock)
        self._say(heading(facts))

    def update(self, update: Update) -> None:
        course = self._course = self._course or Course(_unknown(update), self._clock)
        course.add(update)
        if course.trained:
            self._say(line(course))
        if held_out := course.accuracy():
            self._say(f"     held-out accuracy {held_out}")

    def findings(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            self._say(f"  !  {clean(finding.sentence)}\n     {clean(finding.advice)}")

    def finish(self, message: str = "") -> None:
        if not self._finished and message:
            self._say(clean(message))
        self._finished = True


def heading(facts: Facts) -> str:
    """What begins, in one line."""
    resumed = f", from step {facts.first}" if facts.first > 1 else ""
    where = f" → {facts.folder}" if facts.folder else ""
    length = "until its budget is spent" if facts.budgeted else f"{facts.steps} steps"
    return clean(f"{facts.name}: {facts.method} on {facts.model}, {length}{resumed}{where}")


def _unknown(update: Update) -> Facts:
    return Facts(name="run", method="", model="", steps=update.step, first=update.step)


class LiveDisplay:
    """One panel that is drawn again as steps finish; findings scroll above it."""

    def __init__(
        self,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.perf_counter,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        from rich.console import Console

        environment = os.environ if environment is None else environment
        # https://no-color.org: set and not empty
        no_color = bool(environment.get("NO_COLOR"))
        self._console = Console(
            file=stream or sys.stderr, no_color=no_color, highlight=False, markup=False, force_terminal=True
        )
        self._clock = clock
        self._course: Course | None = None
        self._live: Any = None

    def start(self, facts: Facts) -> None:
        from rich.live import Live

        self._course = Course(facts, self._clock)
        self._live = Live(get_renderable=self.panel, console=self._console, refresh_per_second=4, transient=False)
        self._live.start()

    def update(self, update: Update) -> None:
        if self._course is None:
            self.start(_unknown(update))
        assert self._course is not None
        self._course.add(update)
        self._live.refresh()

    def findings(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            self._console.print(f"!  {clean(finding.sentence)}", style="yellow")
            self._console.print(f"   {clean(finding.advice)}", style="dim")

    def finish(self, message: str = "") -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            if message:
                self._console.print(clean(message))

    def panel(self) -> Any:
        """The panel as it stands now."""
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        course = self._course
        if course is None:
            return Text("")
        m, facts = course.metrics, course.facts
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        share = Table.grid(padding=(0, 1))
        share.add_row(
            Text(f"{course.step}/{facts.steps}"),
            ProgressBar(total=max(1, facts.steps), completed=course.step, width=30),
            Text(f"{duration(course.clock() - course.last)} into the next" if course.step < facts.steps else "done"),
        )
        table.add_row("step", share)
        rollouts = "reward" in m or "completions/mean_length" in m
        if rollouts:
            spread = f"{_number(m, 'reward', '.3f')} ± {_number(m, 'reward_std', '.3f')}"
            table.add_row("reward", Text.assemble(spread, "  ", (sparkline(course.rewards, 40), "green")))
            table.add_row("groups with signal", Text(_number(m, "groups/signal", ".0%")))
            length = f"{_number(m, 'completions/mean_length', '.1f')} tokens, "
            table.add_row("mean length", Text(f"{length}{_number(m, 'completions/clipped_ratio', '.0%')} cut off"))
        elif course.trained:
            table.add_row(
                "loss",
                Text.assemble(_number(m, "loss", ".4f"), "  ", (sparkline(course.rewards, 40), "green")),
            )
        if course.held_out:
            recent = ", ".join(f"{accuracy:.1%} (step {step})" for step, accuracy in course.held_out[-3:])
            table.add_row("held-out accuracy", Text(recent))
        if course.trained:
            sampling = f"{_number(m, 'tokens_per_s/sample', ',.0f')} sampling, " if rollouts else ""
            table.add_row("tokens/s", Text(f"{sampling}{_number(m, 'tokens_per_s/learn', ',.0f')} learning"))
            table.add_row("time", Text(f"{duration(course.step_s)} per step, {duration(course.eta_s)} left"))
        return Panel(table, title=Text(clean(f"{facts.name} · {facts.method} · {facts.model}")), title_align="left")


def wants_plain(stream: TextIO, *, plain: bool = False, environment: Mapping[str, str] | None = None) -> bool:
    """Whether to print lines: asked for, not a terminal, a dumb one, or a CI service's log."""
    environment = os.environ if environment is None else environment
    in_ci = environment.get("CI", "").lower() not in ("", "0", "false")
    return plain or in_ci or environment.get("TERM") in ("dumb", "unknown") or not stream.isatty()


def choose_display(
    stream: TextIO | None = None, *, plain: bool = False, environment: Mapping[str, str] | None = None
) -> Display:
    """The display that suits where the output goes.

    stream: standard error when left out, so that standard output stays free for data. plain: the user's wish.
    environment: os.environ when left out.
    """
    target: TextIO = stream or sys.stderr
    if wants_plain(target, plain=plain, environment=environment):
        return PlainDisplay(target)
    return LiveDisplay(target, environment=environment)
