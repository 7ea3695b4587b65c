"""What every named reward shares: verdicts, one look per distinct completion, a cache, time limits.

A reward answers per completion with a number, abstains (it does not apply) or fails (it broke). What is none of these,
a number that is not finite or a text, is a failure and never a 0. Text parsers that run on what the model wrote do so
in a child process (`pool.py`) under a time limit. Text that is proven too costly to parse is a wrong answer, because
otherwise a model could stop a run by writing it; text that merely waited on a busy machine is not.

Not here: several rewards together (`rubric.py`), the names (`registry.py`).
"""

from __future__ import annotations

import abc
import asyncio
import hashlib
import math
import numbers
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
LONGEST_TEXT = 100_000
"""Characters of work beyond which a built-in parser that overran is not asked a second time."""
PROVEN = 0.9
"""Share of the limit that must have been the worker's own processor time for an overrun to be the text's doing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One reward's answer for one completion.

    seconds: what it cost. lasting: whether the same text would surely get it again (a time-out would not); only
    verdicts that are, and that did not fail, are remembered.
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


def checked(found: object) -> Verdict:
    """The verdict itself where it keeps its promise, else a failure that says what was found."""
    if not isinstance(found, Verdict):
        return failed(f"returned {found!r:.60}, a {type(found).__name__}; expected a verdict")
    if found.status != "scored":
        if found.value is None:
            return found
        return failed(f"has the status {found.status!r} and the value {found.value!r:.60}; expected no value")
    if not isinstance(found.value, numbers.Real):
        return failed(f"returned {found.value!r:.60}, a {type(found.value).__name__}; expected a number or None")
    if not math.isfinite(found.value):
        return replace(failed(f"the value is {found.value}; a reward is a finite number"), seconds=found.seconds)
    return found


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

    async def ready(self) -> None:  # noqa: B027 - most rewards open nothing
        """Open what it scores with, so that what cannot be had is told before anything is sampled.

        Raises: CharterError that says what is missing.
        """

    async def verdicts(self, group: Group) -> tuple[Verdict, ...]:
        """One verdict per rollout; identical completions of a pure reward are looked at once."""
        prompt, rollouts = group.prompt, group.rollouts
        if not rollouts:
            return ()
        if not self.pure:
            return tuple(await self._guarded(prompt, rollouts))
        row = _digest(prompt.id, prompt.messages, sorted(prompt.fields.items()))
        keys = [hashlib.blake2b(_bytes(r.text), key=row, digest_size=16).digest() for r in rollouts]
        known = {key: self._cache[key] for key in keys if key in self._cache}
        for key in known:
            self._cache.move_to_end(key)
        fresh = {k: r for k, r in zip(keys, rollouts, strict=True) if k not in known}
        news = dict(zip(fresh, await self._guarded(prompt, list(fresh.values())), strict=True)) if fresh else {}
        self._remember(news)
        # what was looked up cost nothing, and what was worked out is paid for once
        known |= {key: replace(verdict, seconds=0.0) for key, verdict in news.items()}
        return tuple(news.pop(key, known[key]) for key in keys)

    async def score(self, group: Group) -> Sequence[Score]:
        """One Score per rollout, in order; a failure is a Score of status "failed", not an exception."""
        return [
            Score(
                value=v.value,
                parts={self.name: v.value},
                note=v.note,
                status=v.status,
                failures={self.name: v.note} if v.status == "failed" else {},
                seconds={self.name: v.seconds},
            )
            for v in await self.verdicts(group)
        ]

    def shut_down(self) -> None:  # noqa: B027 - most rewards hold nothing
        """Free child processes at once; `close` for callers without an event loop."""

    async def close(self) -> None:
        """Free child processes; the object is not used afterwards."""
        await asyncio.to_thread(self.shut_down)

    async def _guarded(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        try:
            found = list(await self.judge(prompt, rollouts))
        except Exception as error:  # noqa: BLE001 - the seam promises Scores, whatever breaks
            cause = failed(f"{type(error).__name__}: {error}")
            return [cause] * len(rollouts)
        if len(found) != len(rollouts):
            return [failed(f"{len(found)} verdicts for {len(rollouts)} completions")] * len(rollouts)
        return [checked(verdict) for verdict in found]

    def _remember(self, news: Mapping[bytes, Verdict]) -> None:
        for key, verdict in news.items():
            if verdict.lasting and verdict.status != "failed":
                self._cache[key] = replace(verdict, seconds=0.0)
        while len(self._cache) > CACHE_SIZE:
            self._cache.popitem(last=False)


def _digest(*values: object) -> bytes:
    """A digest of a row: the same prompt id may come with another reference from another data set."""
    try:
        whole = encode(values)
    except (TypeError, ValueError):  # a column that has no form in JSON
        whole = _bytes(repr(values))
    return hashlib.blake2b(whole, digest_size=32).digest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


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

    def timed_out(self, work: Mapping[str, Any]) -> Verdict:
        """What an overrun means that cannot be told from a busy machine.

        Asked after the first overrun, where only a number counts (wrong, without a second try), and after the second.
        Here: text over `LONGEST_TEXT` is wrong, anything shorter has failed. A reward that knows a better bound on
        what its parser should manage says so by overriding this.
        """
        size = sum(len(value) for value in work.values() if isinstance(value, str))
        if size > LONGEST_TEXT:
            return self._too_slow(f"and has {size} characters, over the bound of {LONGEST_TEXT}")
        return failed(f"no answer within {self.timeout_s:g} s in two tries: a busy machine, or timeout_s is too low")

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        """One verdict per rollout; each has the time limit to itself."""
        tasks = [asyncio.ensure_future(self._one(prompt, rollout)) for rollout in rollouts]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _one(self, prompt: Prompt, rollout: Rollout) -> Verdict:
        work = self.prepare(prompt, rollout)
        if isinstance(work, Verdict):
            return work
        try:
            encode(work)
        except (TypeError, ValueError) as error:
            return failed(f"prompt {prompt.id}: {error}")
        how: dict[str, bool] = {}
        for last_try in (False, True):
            try:
                reply = await self.pool.run(work, self.timeout_s, **how)
            except WorkerTimeoutError as error:
                if error.cpu_s >= PROVEN * self.timeout_s:  # it had the processor all the time: no second try helps
                    return self._too_slow()
                meaning = replace(self.timed_out(work), seconds=self.timeout_s, lasting=False)
                if last_try or meaning.status == "scored":
                    return meaning
                how = {"patient": True}
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

    def _too_slow(self, why: str = "") -> Verdict:
        note = " ".join(f"the completion did not parse within {self.timeout_s:g} s {why}".split())
        return Verdict(value=0.0, note=note, seconds=self.timeout_s, lasting=False)

    def shut_down(self) -> None:
        """Kill the workers."""
        self.pool.close()
