"""One decoding loop: a token for every live row per turn, and new groups admitted where rows have ended.

Groups that are admitted together are a cohort: their rows are at the same position, in a cache of their own. All
cohorts go through the layers as one batch; only attention is apart. What is admitted when depends on what was drawn and
on nothing else, so that a run that is repeated makes the same products.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from charter.errors import DivergedError
from charter.model.attention import AttentionSpec, Layout
from charter.model.copies import DecodingCopy
from charter.model.few_rows import LEAST_ROWS, MOST_ROWS
from charter.model.load import Policy
from charter.protocols import SamplingSettings
from charter.sampler.cache import GroupCache
from charter.sampler.draw import choose
from charter.sampler.lanes import Lanes, fit_for_lanes
from charter.sampler.prefill import Prefill, prefill
from charter.types import StopReason


@dataclass(slots=True)
class Row:
    """A completion in the making."""

    group: int
    index: int
    uniforms: np.ndarray
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stop: StopReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """What all turns of a loop share.

    policy: reads the prompts. decoder: reads what is written; the policy itself, or a copy of its weights.
    room: most rows in memory at once; a group is admitted whole, and the first one always. version: of the weights.
    """

    policy: Policy
    decoder: Policy | DecodingCopy
    settings: SamplingSettings
    room: int
    version: int

    def run(self, prompts: Sequence[Sequence[int]] | Prefill, rows: Sequence[Sequence[Row]]) -> Iterator[list[int]]:
        """Write the rows of every prompt; yields after each turn which groups ended in it (often none).

        prompts: ids of each, or what they gave already. rows: of each prompt, as many everywhere; they are filled in.
        Raises: DivergedError when logits are not finite.
        """
        waiting = deque(range(len(rows)))
        unfinished = [len(own) for own in rows]
        cohorts: list[_Cohort] = []
        while waiting or cohorts:
            admitted = self._admitted(len(waiting), sum(cohort.cache.slots for cohort in cohorts), len(rows[0]))
            with torch.inference_mode(), self.policy.arithmetic():
                logits = self._advance(cohorts, alone=not waiting)
                if admitted:
                    numbers = [waiting.popleft() for _ in range(admitted)]
                    given, own = self.read(prompts, numbers), [row for i in numbers for row in rows[i]]
                    first = self.policy.logits(given.last_hidden)  # every completion of a prompt draws from the same
                    logits.append(first.repeat_interleave(len(rows[0]), dim=0))
                    cohorts.append(_Cohort(GroupCache(given, len(rows[0]), self.settings.max_new_tokens), own))
                live = [row for cohort in cohorts for row in cohort.live]
                tokens, logprobs = self._choose(torch.cat(logits) if len(logits) > 1 else logits[0], live)
            ended: list[int] = []
            for row, token, logprob in zip(live, tokens, logprobs, strict=True):
                row.tokens.append(token)
                row.logprobs.append(logprob)
                if token in self.policy.chat.eos_ids:
                    row.stop = "eos"
                elif len(row.tokens) == self.settings.max_new_tokens:
                    row.stop = "length"
                else:
                    continue
                unfinished[row.group] -= 1
                if not unfinished[row.group]:
                    ended.append(row.group)
            yield ended
            cohorts = [cohort for cohort in cohorts if cohort.keep_live()]

    def read(self, prompts: Sequence[Sequence[int]] | Prefill, numbers: Sequence[int]) -> Prefill:
        """These of the prompts, read now if they were not before."""
        if isinstance(prompts, Prefill):
            return prompts.some(numbers)
        return prefill(self.policy, [prompts[i] for i in numbers])

    def _admitted(self, waiting: int, slots: int, completions: int) -> int:
        """How many groups of so many completions to admit now. While others decode, only where a quarter of the room is
        free: attention of many small cohorts is slow."""
        free = self.room - slots
        if slots and free < max(completions, self.room // 4):
            return 0
        return min(waiting, max(1, free // completions))

    def _advance(self, cohorts: Sequence[_Cohort], *, alone: bool) -> list[Tensor]:
        """Logits of every live row's next token, of all cohorts in one batch. alone: whether no cohort will follow."""
        if not cohorts:
            return []
        if alone and len(cohorts) == 1 and self.decoder is self.policy:
            hidden = cohorts[0].read_by_kernels(self.policy, self.settings.max_new_tokens)
            if hidden is not None:
                return [self.policy.logits(hidden)]
        device = self.policy.device
        slots = [torch.tensor(cohort.slots, device=device) for cohort in cohorts]
        tokens = torch.tensor([row.tokens[-1] for cohort in cohorts for row in cohort.live], device=device)
        positions = [cohort.cache.positions(at) for cohort, at in zip(cohorts, slots, strict=True)]
        layouts = [cohort.cache.layout(at) for cohort, at in zip(cohorts, slots, strict=True)]
        layout = layouts[0] if len(layouts) == 1 else SideBySide(layouts, [len(at) for at in slots])
        hidden = self.decoder.hidden(tokens, torch.cat(positions), layout)
        for cohort in cohorts:
            cohort.cache.step += 1
        return [self.decoder.logits(hidden)]

    def _choose(self, logits: Tensor, rows: Sequence[Row]) -> tuple[list[int], list[float]]:
        uniform = np.asarray([row.uniforms[len(row.tokens)] for row in rows])
        tokens, logprobs = choose(
            logits,
            torch.tensor(uniform, dtype=torch.float64, device=logits.device),
            temperature=self.settings.temperature,
            top_p=self.settings.top_p,
            top_k=self.settings.top_k,
        )
        values: list[float] = logprobs.tolist()
        if not all(map(math.isfinite, values)):
            raise diverged(self.version)
        return tokens.tolist(), values


def diverged(version: int) -> DivergedError:
    """What is raised where nothing can be drawn."""
    return DivergedError(
        f"the model's logits are not finite (version {version} of the weights), so nothing can be drawn. "
        "Start another run with a lower optimizer.learning_rate, from the last checkpoint's model"
    )


class _Cohort:
    """Groups admitted together. live: rows still being written. slots: of each in the cache, until they are lanes."""

    def __init__(self, cache: GroupCache, rows: Sequence[Row]) -> None:
        self.cache = cache
        self.live = list(rows)
        self.slots = list(range(len(rows)))
        self._lanes: Lanes | None = None
        self._fit: bool | None = None  # to be lanes; asked once

    def read_by_kernels(self, policy: Policy, most: int) -> Tensor | None:
        """Last hidden states of the live rows, which are lanes from now on; None where kernels cannot decode them."""
        if self._fit is False or (self._lanes is None and not LEAST_ROWS <= len(self.live) <= MOST_ROWS):
            return None
        fused = policy.fused_forward()
        if self._lanes is None:
            self._fit = fused is not None and fit_for_lanes(fused, self.cache, most)
            if fused is None or not self._fit:
                return None
            self._lanes = Lanes(fused, self.cache, self.slots, most)
        if fused is None:
            raise RuntimeError("the model's layers were replaced while it decoded")
        return self._lanes.hidden(fused, [row.tokens[-1] for row in self.live])

    def keep_live(self) -> bool:
        """Let go of rows that ended; whether any is left."""
        still = [i for i, row in enumerate(self.live) if row.stop is None]
        self.live = [self.live[i] for i in still]
        if self._lanes is not None:
            self._lanes.keep(still)
            return bool(still)
        self.slots = [self.slots[i] for i in still]
        self.slots = self.cache.pack(self.slots) or self.slots
        return bool(still)


class SideBySide:
    """The tokens of several layouts, one behind the other; none sees those of another.

    sizes: tokens of each.
    """

    def __init__(self, layouts: Sequence[Layout], sizes: Sequence[int]) -> None:
        self._layouts = layouts
        self._sizes = list(sizes)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, spec: AttentionSpec) -> Tensor:
        queries, keys, values = (x.split(self._sizes, dim=1) for x in (query, key, value))
        parts = zip(self._layouts, queries, keys, values, strict=True)
        return torch.cat([layout.attend(q, k, v, spec) for layout, q, k, v in parts])
