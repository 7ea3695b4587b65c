"""Any Python function as a reward, with TRL's signature.

A function named in a recipe (`rules.py:short`, `package.module:name`) is imported, inspected and called in worker
processes, never in the trainer. The completions of a prompt are handed over together, under `timeout_s` times their
number; when that call raises, dies or hangs they are tried again one by one, so that only the guilty one fails. A
function whose number for one completion depends on the others must say so with an attribute,
`f.row_independent = False`; then the whole group fails instead.

A function *object* given through the API runs in a thread of this process: one that hangs cannot be killed, only
abandoned.
"""

from __future__ import annotations

import abc
import asyncio
import difflib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from charter.errors import Problem
from charter.reward.call import SPECIAL, call, describe
from charter.reward.frames import encode
from charter.reward.pool import WorkerError, WorkerPool
from charter.reward.runtime import NamedReward, Verdict, failed, from_reply
from charter.reward.worker import describe_error
from charter.types import Prompt, Rollout


class CallError(Exception):
    """A call that brought no numbers; the text says why."""


class FunctionReward(NamedReward):
    """What both kinds of functions share: which arguments they get, and the second try."""

    maximum = None

    def __init__(self, name: str, timeout_s: float, facts: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        super().__init__(name, timeout_s)
        self._names = [p["name"] for p in facts["parameters"]]
        self._required = [p["name"] for p in facts["parameters"] if p["required"]]
        self._takes_all = bool(facts["takes_all"])
        self._row_independent = bool(facts["row_independent"])
        self._options = dict(options)

    def option_problems(self, where: str) -> list[Problem]:
        """Options that are no parameter of the function."""
        allowed = [name for name in self._names if name not in SPECIAL]
        problems = []
        for name in self._options:
            if name not in allowed:
                near = difflib.get_close_matches(name, allowed, n=1)
                hint = f"Did you mean {near[0]!r}? " if near else ""
                found = (
                    f"the function {self.name!r} has no parameter {name!r} (it has: {', '.join(self._names) or 'none'})"
                )
                problems.append(
                    Problem(where=f"{where}.{name}", found=found, fix=f"{hint}Remove the key or add the parameter")
                )
        return problems

    def required_columns(self) -> tuple[str, ...]:
        """Parameters without a default that neither the completions nor an option fill."""
        return tuple(n for n in self._required if n not in SPECIAL and n not in self._options)

    def check_columns(self, columns: Sequence[str], source: str) -> list[Problem]:
        """Parameters that nothing fills, each with the nearest column."""
        problems = []
        for name in self.required_columns():
            if name in columns:
                continue
            near = difflib.get_close_matches(name, columns, n=1)
            have = ", ".join(repr(c) for c in columns) or "none besides the prompt"
            found = f"its parameter {name!r} is no column of {source} (columns: {have})"
            hint = f"Did you mean {near[0]!r}? " if near else ""
            fix = f"{hint}Rename the parameter, give it a default, add the column, or set it as an option"
            problems.append(Problem(where=f"reward {self.name!r}", found=found, fix=fix))
        return problems

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        """Call the function on all completions; on a failure, on each alone."""
        missing = [c for c in self.required_columns() if c not in prompt.fields]
        if missing:
            have = ", ".join(map(repr, prompt.fields)) or "none"
            note = f"row {prompt.id} has no column {missing[0]!r} for the parameter of that name (its columns: {have})"
            return [failed(note)] * len(rollouts)
        try:
            return await self._together(prompt, rollouts)
        except CallError as error:
            if len(rollouts) == 1 or not self._row_independent:
                return [failed(str(error))] * len(rollouts)
        return await asyncio.gather(*(self._alone(prompt, rollout) for rollout in rollouts))

    async def _together(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> list[Verdict]:
        wanted = prompt.fields if self._takes_all else {k: v for k, v in prompt.fields.items() if k in self._names}
        work = {
            "messages": [dict(m) for m in prompt.messages],
            "texts": [r.text for r in rollouts],
            "tokens": [list(r.tokens) for r in rollouts],
            "columns": dict(wanted),
            "options": self._options,
        }
        replies, seconds = await self._call(work, self.timeout_s * len(rollouts))
        return [from_reply(reply, seconds / len(rollouts)) for reply in replies]

    async def _alone(self, prompt: Prompt, rollout: Rollout) -> Verdict:
        try:
            return (await self._together(prompt, [rollout]))[0]
        except CallError as error:
            return failed(str(error))

    @abc.abstractmethod
    async def _call(self, work: Mapping[str, Any], limit_s: float) -> tuple[Sequence[Mapping[str, Any]], float]:
        """The function's replies and the seconds it took. Raises: CallError."""


class SourceReward(FunctionReward):
    """A function named by its place, run in worker processes.

    Raises: WorkerError when it cannot be imported or found.
    """

    def __init__(self, source: str, timeout_s: float, options: Mapping[str, Any]) -> None:
        self._pool = WorkerPool("function", {"source": source}, bounded=False)
        try:
            facts = self._pool.start()
        except BaseException:
            self._pool.close()
            raise
        super().__init__(source.rpartition(":")[2].rpartition(".")[2], timeout_s, facts, options)

    @property
    def pool(self) -> WorkerPool:
        """The worker processes."""
        return self._pool

    async def _call(self, work: Mapping[str, Any], limit_s: float) -> tuple[Sequence[Mapping[str, Any]], float]:
        try:
            encode(work)
            reply = await self._pool.run(work, limit_s)
        except (WorkerError, TypeError, ValueError) as error:
            raise CallError(str(error)) from error
        return reply.result, reply.seconds

    def shut_down(self) -> None:
        """Kill the workers."""
        self._pool.close()


class ObjectReward(FunctionReward):
    """A function object, run in a thread; a call over its limit is abandoned, since a thread cannot be killed."""

    def __init__(self, function: Callable[..., Any], timeout_s: float, options: Mapping[str, Any]) -> None:
        super().__init__(getattr(function, "__name__", type(function).__name__), timeout_s, describe(function), options)
        self._function = function

    async def _call(self, work: Mapping[str, Any], limit_s: float) -> tuple[Sequence[Mapping[str, Any]], float]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Sequence[Mapping[str, Any]]] = loop.create_future()

        def settle(result: Sequence[Mapping[str, Any]] | None, cause: str) -> None:
            if done.done():
                return
            if result is None:
                done.set_exception(CallError(cause))
            else:
                done.set_result(result)

        def work_on_it() -> None:
            try:
                result, cause = call(self._function, work), ""
            except BaseException as error:  # noqa: BLE001 - SystemExit in a user's function is its failure
                result, cause = None, describe_error(error)
            try:
                loop.call_soon_threadsafe(settle, result, cause)
            except RuntimeError:  # the loop was closed while an abandoned call went on
                return

        started = loop.time()
        threading.Thread(target=work_on_it, daemon=True, name=f"charter-{self.name}").start()
        try:
            result = await asyncio.wait_for(done, limit_s)
        except TimeoutError:
            raise CallError(f"took longer than {limit_s:g} s") from None
        return result, loop.time() - started
