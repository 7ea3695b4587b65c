"""Decoding that does not wait for the host: steps of fixed shapes, which CUDA captures once as a graph and replays.

Where `charter.sampler.decoding` looks at every token, this looks at up to `LOOK` of them together: a row that has ended
draws on until then, and what it drew is dropped. Cohorts decode one after the other. When half of a cohort's slots idle
it is packed and captured anew; sizes halve, so captures are few. On other devices the same steps run as they are.

A graph is trusted after it has drawn what the step itself draws; one that cannot be captured, or draws otherwise, is
given up with a warning, and the steps run one by one.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from charter.model.load import Policy
from charter.sampler.cache import GroupCache, StaticLayout
from charter.sampler.decoding import Decoding, Row, diverged
from charter.sampler.draw import choose
from charter.sampler.prefill import Prefill

LOOK = 16
"""Tokens of every row between two looks of the host."""
_given_up: list[str] = []
"""Why graphs are not used in this process, once that has happened."""


class GraphedDecoding(Decoding):
    """As `Decoding`, with the same draws; groups are told up to LOOK tokens after they ended."""

    def run(self, prompts: Sequence[Sequence[int]] | Prefill, rows: Sequence[Sequence[Row]]) -> Iterator[list[int]]:
        waiting = deque(range(len(rows)))
        unfinished = [len(own) for own in rows]
        cohorts: list[_Cohort] = []
        while waiting or cohorts:
            admitted = self._admitted(len(waiting), sum(cohort.cache.slots for cohort in cohorts), len(rows[0]))
            with torch.inference_mode():
                if admitted:
                    numbers = [waiting.popleft() for _ in range(admitted)]
                    with arithmetic(self.policy):
                        given = self.read(prompts, numbers)
                    cohorts.append(_Cohort(self, given, [row for i in numbers for row in rows[i]]))
                for cohort in cohorts:
                    cohort.advance()
            ended: list[int] = []
            for row in (row for cohort in cohorts for row in cohort.take()):
                unfinished[row.group] -= 1
                if not unfinished[row.group]:
                    ended.append(row.group)
            yield ended
            with torch.inference_mode():
                cohorts = [cohort for cohort in cohorts if cohort.keep_live()]


class _Cohort:
    """Groups admitted together; everything that a step reads or writes is in tensors that stay where they are.

    rows: of each slot, None where it idles. uniforms, tokens, logprobs: `[slots, max_new_tokens]`. cell: own tokens in
    the cache; the token that is read next is number `cell`.
    """

    def __init__(self, how: Decoding, prompts: Prefill, rows: Sequence[Row]) -> None:
        self._how = how
        most, device = how.settings.max_new_tokens, how.policy.device
        self.rows: list[Row | None] = list(rows)
        self._uniforms = torch.from_numpy(np.stack([row.uniforms[:most] for row in rows])).to(device)
        self._tokens = torch.zeros(len(rows), most, dtype=torch.long, device=device)
        self._cell = torch.zeros((), dtype=torch.long, device=device)
        self._written = self._taken = 0  # tokens of each row: drawn, and looked at
        self._replay: Callable[[], None] | None = None
        self._capture = device.type == "cuda" and not _given_up
        self.cache = GroupCache(prompts, len(rows) // len(prompts.lengths), most)
        with arithmetic(how.policy):
            first = how.policy.logits(prompts.last_hidden).repeat_interleave(self.cache.completions, dim=0)
        self._logprobs = torch.zeros(len(rows), most, dtype=first.dtype, device=device)
        self._draw(first)
        self._written = 1

    def advance(self) -> None:
        """Draw up to LOOK tokens for every slot."""
        steps = min(LOOK, self._how.settings.max_new_tokens - self._written)
        if self.cache.capacity < self._written + steps - 1:
            self.cache.reserve(self._written + steps - 1)
            self._replay = None
        for _ in range(steps):
            (self._replay or self._step_or_capture)()
            self._written += 1

    def _step(self) -> None:
        """Read the newest token of every slot, draw the next."""
        how = self._how
        with arithmetic(how.policy):
            newest = self._tokens.index_select(1, self._cell[None])[:, 0]
            lengths = self.cache.lengths.repeat_interleave(self.cache.completions, output_size=self.cache.slots)
            hidden = how.decoder.hidden(newest, lengths + self._cell, StaticLayout(self.cache, self._cell))
            logits = how.decoder.logits(hidden)
        self._cell += 1
        self._draw(logits)

    def _draw(self, logits: Tensor) -> None:
        settings, at = self._how.settings, self._cell[None]
        tokens, logprobs = choose(
            logits, self._uniforms.index_select(1, at)[:, 0],
            temperature=settings.temperature, top_p=settings.top_p, top_k=settings.top_k,
        )  # fmt: skip
        self._tokens.index_copy_(1, at, tokens[:, None])
        self._logprobs.index_copy_(1, at, logprobs[:, None].to(self._logprobs.dtype))

    def _step_or_capture(self) -> None:
        """One step; where there are graphs, capture it first, and keep the graph if it does what the step does."""
        if self._capture:
            try:
                replay = self._captured()
                self._replay = replay if self._trusted(replay) else None
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                self._give_up((str(error).splitlines() or ["it could not be captured"])[0])
            else:
                if self._replay is None:
                    self._give_up("it drew other tokens than the step itself")
        (self._replay or self._step)()

    def _captured(self) -> Callable[[], None]:
        """A graph of the step; the cohort is left where it is."""
        device = self._cell.device
        cell = self._cell.clone()
        with torch.cuda.device(device):
            here, side = torch.cuda.current_stream(), _side_stream(device)
            side.wait_stream(here)
            try:
                with torch.cuda.stream(side):
                    self._step()  # libraries make their work spaces in a first call, which a graph cannot hold
                here.wait_stream(side)
                graph = torch.cuda.CUDAGraph()
                # rewards may use the device from a thread of their own meanwhile
                with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                    self._step()
            finally:
                torch.cuda.set_stream(here)  # a capture that failed stays on its stream
                here.wait_stream(side)
                self._cell.copy_(cell)
        return graph.replay

    def _trusted(self, replay: Callable[[], None]) -> bool:
        """Whether a replay does what the step does from here; the cohort is left where it is."""
        cell = self._cell.clone()
        at = (cell + 1)[None]

        def drawn() -> tuple[Tensor, Tensor]:
            return self._tokens.index_select(1, at), self._logprobs.index_select(1, at)

        self._step()
        tokens, logprobs = drawn()
        self._cell.copy_(cell)
        self._tokens.index_fill_(1, at, -1)  # so that a replay that does nothing is found out
        self._logprobs.index_fill_(1, at, math.nan)
        replay()
        again, told = drawn()
        same = bool(self._cell == cell + 1) and torch.equal(tokens, again)
        same = same and torch.allclose(logprobs, told, atol=1e-3, equal_nan=bool(logprobs.isnan().any()))
        self._cell.copy_(cell)
        return same

    def _give_up(self, why: str) -> None:
        """Of graphs, in this process: what fails once fails every time."""
        self._capture = False
        _given_up.append(why)
        warnings.warn(f"decoding goes on without CUDA graphs: {why}", RuntimeWarning, stacklevel=2)

    def take(self) -> Iterator[Row]:
        """Hand each row what was drawn since the last look; yields the rows that ended."""
        new = slice(self._taken, self._written)
        drawn, told = self._tokens[:, new].tolist(), self._logprobs[:, new].tolist()
        self._taken = self._written
        eos, most = self._how.policy.chat.eos_ids, self._how.settings.max_new_tokens
        for row, tokens, logprobs in zip(self.rows, drawn, told, strict=True):
            if row is None:
                continue
            for token, logprob in zip(tokens, logprobs, strict=True):
                if not math.isfinite(logprob):
                    raise diverged(self._how.version)
                row.tokens.append(token)
                row.logprobs.append(logprob)
                row.stop = "eos" if token in eos else "length" if len(row.tokens) == most else None
                if row.stop is not None:
                    yield row
                    break

    def keep_live(self) -> bool:
        """Let go of rows that ended; whether any is left."""
        self.rows = [row if row is not None and row.stop is None else None for row in self.rows]
        live = [slot for slot, row in enumerate(self.rows) if row is not None]
        if not live:
            return False
        moved = self.cache.pack(live)
        if moved is not None:
            source = [live[0]] * self.cache.slots  # slots that stay empty read any row
            kept: list[Row | None] = [None] * self.cache.slots
            for old, new in zip(live, moved, strict=True):
                source[new], kept[new] = old, self.rows[old]
            order = torch.tensor(source, device=self._cell.device)
            self._uniforms, self._tokens, self._logprobs = (
                x[order] for x in (self._uniforms, self._tokens, self._logprobs)
            )
            self.rows, self._replay = kept, None
        return True


def arithmetic(policy: Policy) -> torch.autocast:
    """As `Policy.arithmetic`, without the memory of casts, which a graph must not share."""
    narrower = policy.compute != policy.head.weight.dtype
    return torch.autocast(policy.device.type, dtype=policy.compute, enabled=narrower, cache_enabled=False)


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Where steps are captured; one for each device, since libraries keep memory for every stream."""
    return torch.cuda.Stream(device)
