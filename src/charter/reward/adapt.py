"""Any Python function as a reward: TRL's signature, verl's, OpenRLHF's, verifiers', Inspect's or a plain one.

A function named in a recipe (`rules.py:short`, `package.module:name`) is imported, recognised (`adapters/`) and called
in worker processes, never in the trainer. Two keys of the recipe are for this file: `signature` says what the function
is where its parameters do not, and `columns = {parameter = "column"}` fills a parameter from a column of another name.

The completions of a prompt are handed over together, under `timeout_s`; when that call raises, dies or overruns they
are tried again one by one, each under `timeout_s`, so that only the guilty one fails (`tries.py` bounds what a function
that hangs may cost). A function whose number for one completion depends on the others must say so with an attribute,
`f.row_independent = False`; it has `timeout_s` times their number, and then the whole group fails.

A function *object* given through the API runs in a thread of this process: one that hangs cannot be killed, only
abandoned.
"""

from __future__ import annotations

import abc
import asyncio
import difflib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charter.errors import Problem
from charter.reward.adapters import open_reward
from charter.reward.adapters.shape import at_path
from charter.reward.call import SourceError
from charter.reward.frames import encode
from charter.reward.pool import WorkerError, WorkerPool, WorkerTimeoutError
from charter.reward.runtime import NamedReward, Verdict, failed, from_reply
from charter.reward.tries import one_by_one
from charter.reward.worker import describe_error
from charter.types import Prompt, Rollout


class CallError(Exception):
    """A call that brought no numbers; the text says why. overran: it took too long."""

    def __init__(self, text: str, *, overran: bool = False) -> None:
        super().__init__(text)
        self.overran = overran


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionOptions:
    """A recipe's keys for one function, sorted.

    signature: as the recipe names it, or None. columns: parameter → column. own: what the function itself is given.
    """

    signature: str | None
    columns: Mapping[str, str]
    own: Mapping[str, Any]

    @classmethod
    def sort(cls, options: Mapping[str, Any]) -> FunctionOptions:
        """Take `signature` and `columns` out. Raises: SourceError when one of them is no such thing."""
        own = dict(options)
        signature, columns = own.pop("signature", None), own.pop("columns", {})
        if signature is not None and not isinstance(signature, str):
            raise SourceError(f"signature is {signature!r:.60}; expected one of the names of signatures")
        if not isinstance(columns, Mapping) or not all(isinstance(v, str) for v in columns.values()):
            raise SourceError(f'columns is {columns!r:.60}; expected a table {{parameter = "column"}}')
        return cls(signature=signature, columns=dict(columns), own=own)


class FunctionReward(NamedReward):
    """What both kinds of functions share: which arguments they get, and the second try.

    signature: which it has; reason: why it was taken for that.
    """

    maximum = None
    at_once = 4
    """Completions tried side by side when they are tried one by one."""

    def __init__(self, name: str, timeout_s: float, facts: Mapping[str, Any], options: FunctionOptions) -> None:
        super().__init__(name, timeout_s)
        self.signature: str = facts["signature"]
        self.reason: str = facts["reason"]
        self._names: list[str] = facts["names"]
        self._allowed: list[str] = facts["options"]
        self._needs: list[tuple[str, list[str]]] = [
            (one["parameter"], one["columns"]) for one in facts["needs"] if one["parameter"] not in options.own
        ]
        self._wants: list[str] | None = facts["wants"]
        self._row_independent = bool(facts["row_independent"])
        self._columns = options.columns
        self._options = dict(options.own)
        self._slow = False

    def option_problems(self, where: str) -> list[Problem]:
        """Options that are no parameter of the function."""
        takes_any = self._wants is None  # a **kwargs, which any column may fill
        known = [*self._names, *(name for name, _ in self._needs)]
        wrong = [(name, self._allowed, name) for name in self._options if name not in self._allowed]
        if not takes_any:
            wrong += [(f"columns.{name}", known, name) for name in self._columns if name not in known]
        problems = []
        for key, allowed, name in wrong:
            near = difflib.get_close_matches(name, allowed, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            found = f"the function {self.name!r} has no parameter {name!r} (it has: {', '.join(self._names) or 'none'})"
            problems.append(
                Problem(where=f"{where}.{key}", found=found, fix=f"{hint}Remove the key or add the parameter")
            )
        return problems

    def _sources(self) -> list[tuple[str, list[str]]]:
        """Each parameter that a column must fill, with the places it may come from."""
        return [(name, [self._columns[name]] if name in self._columns else paths) for name, paths in self._needs]

    def required_columns(self) -> tuple[str, ...]:
        """Columns for the parameters that neither a default, nor the completions, nor an option fill."""
        return tuple(paths[0].partition(".")[0] for _, paths in self._sources())

    def check_columns(self, columns: Sequence[str], source: str) -> list[Problem]:
        """Parameters that nothing fills, each with the nearest column."""
        problems = []
        for name, paths in self._sources():
            if any(path in columns or path.partition(".")[0] in columns for path in paths):
                continue
            near = difflib.get_close_matches(paths[0], columns, n=1)
            have = ", ".join(repr(c) for c in columns) or "none besides the prompt"
            where = "" if paths == [name] else f", filled from {' or '.join(map(repr, paths))},"
            found = f"its parameter {name!r}{where} is no column of {source} (columns: {have})"
            hint = f"Did you mean {near[0]!r}? " if near else ""
            fix = f"{hint}Add the column, set the parameter as an option, or name its column: columns.{name} = …"
            problems.append(Problem(where=f"reward {self.name!r}", found=found, fix=fix))
        return problems

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        """Call the function on all completions; on a failure, on each alone."""
        for name, paths in self._sources():
            if any(at_path(prompt.fields, path)[0] for path in paths):
                continue
            have = ", ".join(map(repr, prompt.fields)) or "none"
            of = "of that name" if paths == [name] else repr(name)
            column = " or ".join(map(repr, paths))
            note = f"row {prompt.id} has no column {column} for the parameter {of} (its columns: {have})"
            return [failed(note)] * len(rollouts)
        overran = False
        if not (self._slow and self._row_independent):
            limit_s = self.timeout_s * (1 if self._row_independent else len(rollouts))
            try:
                return await self._together(prompt, rollouts, limit_s)
            except CallError as error:
                if len(rollouts) == 1 or not self._row_independent:
                    return [failed(str(error))] * len(rollouts)
                overran = error.overran
        found = await one_by_one(rollouts, lambda rollout: self._alone(prompt, rollout), self.at_once)
        if overran and all(verdict.status != "failed" for verdict in found):
            self._slow = True  # it does not hang, it only needs more than one limit for a group
        return found

    async def _together(self, prompt: Prompt, rollouts: Sequence[Rollout], limit_s: float) -> list[Verdict]:
        fields = dict(prompt.fields)
        for name, path in self._columns.items():
            there, value = at_path(prompt.fields, path)
            if there:
                fields[name] = value
        wanted = fields if self._wants is None else {k: v for k, v in fields.items() if k in self._wants}
        work = {
            "messages": [dict(m) for m in prompt.messages],
            "texts": [r.text for r in rollouts],
            "tokens": [list(r.tokens) for r in rollouts],
            "columns": wanted,
            "options": self._options,
        }
        replies, seconds = await self._call(work, limit_s)
        return [from_reply(reply, seconds / len(rollouts)) for reply in replies]

    async def _alone(self, prompt: Prompt, rollout: Rollout) -> tuple[Verdict, bool]:
        try:
            return (await self._together(prompt, [rollout], self.timeout_s))[0], False
        except CallError as error:
            return failed(str(error)), error.overran

    @abc.abstractmethod
    async def _call(self, work: Mapping[str, Any], limit_s: float) -> tuple[Sequence[Mapping[str, Any]], float]:
        """The function's replies and the seconds it took. Raises: CallError."""


class SourceReward(FunctionReward):
    """A function named by its place, run in worker processes.

    Raises: WorkerError when it cannot be imported, found or recognised; SourceError for keys that are no such thing.
    """

    def __init__(self, source: str, timeout_s: float, options: Mapping[str, Any]) -> None:
        sorted_options = FunctionOptions.sort(options)
        setup = {"source": source, "signature": sorted_options.signature, "options": dict(sorted_options.own)}
        self._pool = WorkerPool("function", setup, bounded=False)
        try:
            facts = self._pool.start()
        except BaseException:
            self._pool.close()
            raise
        super().__init__(source.rpartition(":")[2].rpartition(".")[2], timeout_s, facts, sorted_options)
        self.at_once = self._pool.size

    @property
    def pool(self) -> WorkerPool:
        """The worker processes."""
        return self._pool

    async def _call(self, work: Mapping[str, Any], limit_s: float) -> tuple[Sequence[Mapping[str, Any]], float]:
        try:
            encode(work)
            reply = await self._pool.run(work, limit_s)
        except (WorkerError, TypeError, ValueError) as error:
            raise CallError(str(error), overran=isinstance(error, WorkerTimeoutError)) from error
        return reply.result, reply.seconds

    def shut_down(self) -> None:
        """Kill the workers."""
        self._pool.close()


class ObjectReward(FunctionReward):
    """A function object, run in a thread; a call over its limit is abandoned, since a thread cannot be killed."""

    def __init__(self, function: Any, timeout_s: float, options: Mapping[str, Any]) -> None:
        sorted_options = FunctionOptions.sort(options)
        self._handler, facts = open_reward(function, sorted_options.signature, sorted_options.own)
        super().__init__(getattr(function, "__name__", type(function).__name__), timeout_s, facts, sorted_options)

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
                result, cause = self._handler(work), ""
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
            raise CallError(f"took longer than {limit_s:g} s", overran=True) from None
        return result, loop.time() - started


def signature_of(source: str, options: Mapping[str, Any]) -> str:
    """How a function that a recipe names will be called, in words; or why it cannot be.

    It is loaded in a worker process to find out, as a run would load it.
    """
    try:
        reward = SourceReward(source, 10.0, options)
    except (WorkerError, SourceError) as error:
        return f"it cannot be loaded: {str(error).removeprefix('its worker did not start: ')}"
    reward.shut_down()
    return f"{reward.signature}, since {reward.reason}"
