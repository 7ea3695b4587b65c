"""What every named reward shares: verdicts, one look per distinct completion, a cache, time limits, tallies.

A reward answers per completion with a number, abstains (it does not apply) or fails (it broke). Text parsers that run
on what the model wrote do so in a child process (`pool.py`) under a time limit; text that is too slow to parse is a
wrong answer, because otherwise a model could stop a run by writing it.

Not here: several rewards together (`rubric.py`), the names (`registry.py`).
"""

from __future__ import annotations

import abc
import asyncio
import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from charter.errors import Problem
from charter.reward.frames import encode
from charter.reward.pool import WorkerDiedError, WorkerError, WorkerPool, WorkerTimeoutError, WorkFailedError
from charter.types import Group, Prompt, Rollout, Score, ScoreStatus

CACHE_SIZE = 65_536
"""Verdicts a pure reward remembers."""
LONGEST_NOTE = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One reward's answer for one completion.

    seconds: what it cost. lasting: whether the same text would surely get it again (a time-out would not).
    """

    value: float | None
    status: ScoreStatus = "scored"
    note: str = ""
    seconds: float = 0.0
    lasting: bool = True


def scored(value: float, note: str = "") -> Verdict:
    """A verdict with a number; a number that is not finite is a failure."""
    if not math.isfinite(value):
        return failed(f"the value is {value}; a reward is a finite number")
    return Verdict(value=float(value), note=note[:LONGEST_NOTE])


def abstained(note: str = "") -> Verdict:
    """The reward does not apply to this completion; it is left out of the sum."""
    return Verdict(value=None, status="abstained", note=note[:LONGEST_NOTE])


def failed(note: str) -> Verdict:
    """The reward broke on this completion, for the reason in the note."""
    return Verdict(value=None, status="failed", note=note[:LONGEST_NOTE], lasting=False)


def from_reply(reply: Mapping[str, Any], seconds: float) -> Verdict:
    """The verdict a worker sent: {"value", "note"} or {"failed": cause}."""
    if "failed" in reply:
        return replace(failed(str(reply["failed"])), seconds=seconds)
    if reply["value"] is None:
        return replace(abstained(reply.get("note", "")), seconds=seconds)
    return replace(scored(reply["value"], reply.get("note", "")), seconds=seconds)


class Tally:
    """Counts over every completion a reward has seen."""

    def __init__(self) -> None:
        self.completions = 0
        self.failures = 0
        self.abstentions = 0
        self.seconds = 0.0

    def add(self, verdict: Verdict) -> None:
        """Count one completion."""
        self.completions += 1
        self.failures += verdict.status == "failed"
        self.abstentions += verdict.status == "abstained"
        self.seconds += verdict.seconds

    def statistics(self) -> dict[str, float]:
        """Mean seconds per completion, and the shares that failed and abstained (0 before the first one)."""
        count = max(1, self.completions)
        return {
            "seconds": self.seconds / count,
            "error_rate": self.failures / count,
            "abstain_rate": self.abstentions / count,
        }


class NamedReward(abc.ABC):
    """Base of every single reward.

    pure: the verdict depends on the prompt's columns and the text alone, so it may be remembered.
    maximum: the highest value it gives, for the start-up probe; None when it has none.
    """

    pure: bool = False
    maximum: float | None = 1.0

    def __init__(self, name: str, timeout_s: float) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self.tally = Tally()
        self._cache: OrderedDict[bytes, Verdict] = OrderedDict()

    @abc.abstractmethod
    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        """One verdict per rollout, in order."""

    def required_columns(self) -> tuple[str, ...]:
        """Columns of the data without which this reward can say nothing."""
        return ()

    def check_columns(self, columns: Sequence[str], source: str) -> list[Problem]:
        """What is missing, before anything heavy is loaded.

        columns: what the data has besides the prompt. source: the data's name, for the sentence.
        """
        return [missing_column(self.name, c, columns, source) for c in self.required_columns() if c not in columns]

    def reference(self, prompt: Prompt) -> str | None:
        """A completion that must reach `maximum`, or None where this reward knows none."""
        del prompt
        return None

    async def verdicts(self, group: Group) -> tuple[Verdict, ...]:
        """One verdict per rollout; identical completions of a pure reward are looked at once."""
        prompt, rollouts = group.prompt, group.rollouts
        if not rollouts:
            return ()
        if not self.pure:
            found = tuple(await self._guarded(prompt, rollouts))
        else:
            keys = [self._key(prompt, rollout.text) for rollout in rollouts]
            known: dict[bytes, Verdict] = {}
            for key in keys:
                if key in self._cache:
                    self._cache.move_to_end(key)
                    known[key] = replace(self._cache[key], seconds=0.0)
            fresh = {k: r for k, r in zip(keys, rollouts, strict=True) if k not in known}
            if fresh:
                news = await self._guarded(prompt, list(fresh.values()))
                known |= dict(zip(fresh, news, strict=True))
                self._remember({k: known[k] for k in fresh})
            found = tuple(known[key] for key in keys)
        for verdict in found:
            self.tally.add(verdict)
        return found

    async def score(self, group: Group) -> Sequence[Score]:
        """One Score per rollout, in order; a failure is a Score of status "failed", not an exception."""
        return [
            Score(value=v.value, parts={self.name: v.value}, note=v.note, status=v.status)
            for v in await self.verdicts(group)
        ]

    def shut_down(self) -> None:  # noqa: B027 - most rewards hold nothing
        """Free child processes at once; `close` for callers without an event loop."""

    async def close(self) -> None:
        """Free child processes; the object is not used afterwards."""
        await asyncio.to_thread(self.shut_down)

    def statistics(self) -> dict[str, float]:
        """Seconds per completion, error rate and abstain rate so far."""
        return self.tally.statistics()

    async def _guarded(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        try:
            found = await self.judge(prompt, rollouts)
        except Exception as error:  # noqa: BLE001 - the seam promises Scores, whatever breaks
            cause = failed(f"{type(error).__name__}: {error}")
            return [cause] * len(rollouts)
        if len(found) != len(rollouts):
            return [failed(f"{len(found)} verdicts for {len(rollouts)} completions")] * len(rollouts)
        return found

    def _key(self, prompt: Prompt, text: str) -> bytes:
        # The columns are part of the key: the same prompt id may come with another reference from another data set.
        columns = sorted((name, repr(value)) for name, value in prompt.fields.items())
        whole = repr((prompt.id, columns, text)).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(whole, digest_size=16).digest()

    def _remember(self, news: Mapping[bytes, Verdict]) -> None:
        for key, verdict in news.items():
            if verdict.lasting:
                self._cache[key] = verdict
        while len(self._cache) > CACHE_SIZE:
            self._cache.popitem(last=False)


def missing_column(reward: str, column: str, columns: Sequence[str], source: str) -> Problem:
    """The sentence for a column a reward needs and the data lacks."""
    import difflib

    near = difflib.get_close_matches(column, columns, n=1)
    have = ", ".join(repr(c) for c in columns) or "none besides the prompt"
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return Problem(
        where=f"reward {reward!r}",
        found=f"it needs the column {column!r}, which {source} does not have (its columns: {have})",
        fix=f"{hint}Add the column to the data, or name the right one in the reward's options",
    )


class WorkerReward(NamedReward):
    """A built-in reward whose parser runs on model-written text in a killable child process."""

    pure = True

    def __init__(self, name: str, timeout_s: float, task: str, options: Mapping[str, Any]) -> None:
        super().__init__(name, timeout_s)
        self.pool = WorkerPool(task, options)

    @abc.abstractmethod
    def prepare(self, prompt: Prompt, rollout: Rollout) -> Mapping[str, Any] | Verdict:
        """The work to send, or the verdict when it needs no worker."""

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        """One verdict per rollout; each has the time limit to itself."""
        return await asyncio.gather(*(self._one(prompt, rollout) for rollout in rollouts))

    async def _one(self, prompt: Prompt, rollout: Rollout) -> Verdict:
        work = self.prepare(prompt, rollout)
        if isinstance(work, Verdict):
            return work
        try:
            encode(work)
        except (TypeError, ValueError) as error:
            return failed(f"prompt {prompt.id}: {error}")
        for last_try in (False, True):
            try:
                reply = await self.pool.run(work, self.timeout_s)
            except WorkerTimeoutError:
                note = f"the completion did not parse within {self.timeout_s:g} s"
                return Verdict(value=0.0, note=note, seconds=self.timeout_s, lasting=False)
            except WorkerDiedError as error:
                if last_try:  # once may be the machine's doing (out of memory); twice is this text's
                    return failed(str(error))
            except WorkFailedError as error:
                if error.kind == "MemoryError":
                    return Verdict(value=0.0, note="the completion needs too much memory to parse", lasting=False)
                return failed(str(error))
            except WorkerError as error:
                return failed(str(error))
            else:
                return from_reply(reply.result, reply.seconds)
        raise AssertionError("unreachable")

    def shut_down(self) -> None:
        """Kill the workers."""
        self.pool.close()
