"""The in-process sampler: the policy that learns is the policy that samples, in the same memory.

Each prompt is prefilled once for its G completions; finished rows leave the batch; every end-of-sequence id of the
model ends a completion. A completion is a pure function of (weights, seed, stream, step, prompt id, index), up to the
rounding of matrix products whose shape depends on the batch.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from charter.errors import DataError, DivergedError
from charter.model.eight_bit import EightBit, Precision, require
from charter.model.load import Policy
from charter.protocols import SamplingSettings, Weights
from charter.sampler.cache import GroupCache, rows_that_fit
from charter.sampler.draw import choose, uniforms
from charter.sampler.threads import interleave, loops_for
from charter.types import Group, Prompt, Rollout, StopReason

MAX_ROWS = 512
"""Most completions decoded at once; more, or more than fit in memory, are taken in turns."""


@dataclass(slots=True)
class _Row:
    """A completion in the making."""

    group: int
    index: int
    uniforms: np.ndarray
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stop: StopReason | None = None


class LocalSampler:
    """Samples a `Policy` in this process.

    seed: of the run; with the stream, step, prompt id and index it fixes every draw.
    precision: of the products that decode the stream "train"; other streams are always drawn from the policy itself.
    Raises: ModelError for a precision that this model or machine has not.
    """

    def __init__(
        self,
        policy: Policy,
        seed: int,
        *,
        max_rows: int = MAX_ROWS,
        precision: Precision | Literal["model"] = "model",
    ) -> None:
        if precision != "model":
            require(policy, precision)
        self._policy = policy
        self._precision: Precision | Literal["model"] = precision
        self._eight_bit: EightBit | None = None
        self._seed = seed
        self._max_rows = max_rows
        self._version = 0

    async def load(self, weights: Weights) -> None:
        """Take note of the new version: the parameters themselves are shared with the learner."""
        self._version = weights.version
        self._eight_bit = None

    async def sample(
        self, prompts: Sequence[Prompt], settings: SamplingSettings, step: int, *, stream: str = "train"
    ) -> AsyncIterator[Group]:
        """Yield each prompt's Group when its last completion ends; rewards get a turn between any two tokens.

        Raises DataError for a prompt that leaves no room for max_new_tokens in the model's positions.
        """
        encoded = [prompt_tokens(self._policy, prompt, settings.max_new_tokens) for prompt in prompts]
        longest = max(map(len, encoded), default=0)
        room = rows_that_fit(self._policy, longest, settings.group_size, settings.max_new_tokens)
        per_turn = max(1, min(room, self._max_rows) // settings.group_size)
        decoder = self._decoder(stream)
        for at in range(0, len(prompts), per_turn):
            turn = range(at, min(at + per_turn, len(prompts)))
            loops = min(len(turn), loops_for(len(turn) * settings.group_size, self._policy.device))
            shares = [turn[i::loops] for i in range(loops)]
            parts = [
                partial(
                    self._decode,
                    decoder,
                    [prompts[i] for i in share],
                    [encoded[i] for i in share],
                    settings,
                    step,
                    stream,
                )
                for share in shares
            ]
            async for group in interleave(parts):
                yield group

    def _decoder(self, stream: str) -> Policy | EightBit:
        """What decodes: in training a copy in 8 bits where one is asked for, made once per version of the weights."""
        if self._precision == "model" or stream != "train":
            return self._policy
        if self._eight_bit is None:
            with torch.inference_mode():
                self._eight_bit = EightBit(self._policy, self._precision)
        return self._eight_bit

    def _decode(
        self,
        decoder: Policy | EightBit,
        prompts: Sequence[Prompt],
        encoded: Sequence[tuple[int, ...]],
        settings: SamplingSettings,
        step: int,
        stream: str,
    ) -> Iterator[list[Group]]:
        """One token for every live row per turn; yields the groups that finished in that turn (often none)."""
        rows = [
            _Row(
                group=g,
                index=i,
                uniforms=uniforms(
                    seed=self._seed, stream=stream, step=step, prompt_id=prompt.id, index=i,
                    start=0, count=settings.max_new_tokens,
                ),
            )
            for g, prompt in enumerate(prompts)
            for i in range(settings.group_size)
        ]  # fmt: skip
        waiting = [settings.group_size] * len(prompts)
        with torch.inference_mode(), self._policy.arithmetic():
            cache = GroupCache(self._policy, encoded, settings.group_size, settings.max_new_tokens)
            first = self._policy.logits(cache.last_hidden)
        live = list(range(len(rows)))  # rows still being written, and the slot of each in the cache
        slots = list(live)
        logits = first[torch.tensor([rows[r].group for r in live], device=first.device)]
        for position in range(settings.max_new_tokens):
            with torch.inference_mode(), self._policy.arithmetic():
                if position:
                    at = torch.tensor(slots, device=self._policy.device)
                    tokens = torch.tensor([rows[r].tokens[-1] for r in live], device=self._policy.device)
                    hidden = decoder.hidden(tokens, cache.positions(at), cache.layout(at))
                    logits = decoder.logits(hidden)
                    cache.step += 1
                chosen = self._choose(logits, [rows[r].uniforms[position] for r in live], settings)
            done: list[Group] = []
            still: list[int] = []
            for i, (r, token, logprob) in enumerate(zip(live, *chosen, strict=True)):
                row = rows[r]
                row.tokens.append(token)
                row.logprobs.append(logprob)
                if token in self._policy.chat.eos_ids:
                    row.stop = "eos"
                elif position + 1 == settings.max_new_tokens:
                    row.stop = "length"
                else:
                    still.append(i)
                    continue
                waiting[row.group] -= 1
                if not waiting[row.group]:
                    own = [other for other in rows if other.group == row.group]
                    of_step = step if stream == "train" else 0
                    done.append(self._group(prompts[row.group], encoded[row.group], own, of_step))
            live, slots = [live[i] for i in still], [slots[i] for i in still]
            yield done
            if not live:
                return
            slots = cache.pack(slots) or slots

    def _choose(
        self, logits: Tensor, uniform: Sequence[float], settings: SamplingSettings
    ) -> tuple[list[int], list[float]]:
        tokens, logprobs = choose(
            logits,
            torch.tensor(np.asarray(uniform), dtype=torch.float64, device=logits.device),
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
        )
        values: list[float] = logprobs.tolist()
        if not all(map(math.isfinite, values)):
            raise DivergedError(
                f"the model's logits are not finite (version {self._version} of the weights), so nothing can be drawn. "
                "Start another run with a lower optimizer.learning_rate, from the last checkpoint's model"
            )
        return tokens.tolist(), values

    def _group(self, prompt: Prompt, prompt_tokens: tuple[int, ...], rows: Sequence[_Row], step: int) -> Group:
        rollouts: list[Rollout] = []
        for row in rows:
            assert row.stop is not None
            written = row.tokens[:-1] if row.stop == "eos" else row.tokens
            rollouts.append(
                Rollout(
                    prompt_id=prompt.id,
                    index=row.index,
                    tokens=tuple(row.tokens),
                    logprobs=tuple(row.logprobs),
                    text=self._policy.chat.decode(written),
                    stop=row.stop,
                    version=self._version,
                )
            )
        return Group(prompt=prompt, prompt_tokens=prompt_tokens, rollouts=tuple(rollouts), step=step)


def prompt_tokens(policy: Policy, prompt: Prompt, max_new_tokens: int) -> tuple[int, ...]:
    """A prompt's ids. Raises DataError for one that is empty or leaves no room for max_new_tokens."""
    tokens = policy.chat.encode_prompt(prompt.messages)
    limit = policy.max_positions
    if not tokens:
        raise DataError(f"prompt {prompt.id} is empty: it has no tokens to continue")
    if limit is not None and len(tokens) + max_new_tokens > limit:
        begins = prompt.messages[-1]["content"][:60]
        raise DataError(
            f"prompt {prompt.id} ({begins!r}…) has {len(tokens)} tokens; with sampling.max_new_tokens = "
            f"{max_new_tokens} that exceeds the model's {limit} positions. Shorten the prompt or lower max_new_tokens"
        )
    return tokens
