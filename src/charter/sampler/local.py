"""The in-process sampler: the policy that learns is the policy that samples, in the same memory.

Each prompt is prefilled once for its G completions; finished rows leave the batch; every end-of-sequence id of the
model ends a completion. A completion is a pure function of (weights, seed, stream, step, prompt id, index), up to the
rounding of matrix products whose shape depends on the batch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from typing import Literal

import torch

from charter.errors import DataError
from charter.model.copies import DecodingCopy, Precision, require_products
from charter.model.load import Policy
from charter.protocols import SamplingSettings, Weights
from charter.sampler.cache import rows_that_fit
from charter.sampler.decoding import Decoding, Row
from charter.sampler.draw import uniforms
from charter.sampler.graphed import GraphedDecoding
from charter.sampler.prefill import Prefill
from charter.sampler.threads import interleave, loops_for
from charter.types import Group, Prompt, Rollout

Share = Sequence[tuple[int, range]]
"""(number of a prompt, which of its completions), as many of each."""
MAX_ROWS = 512
"""Most completions decoded at once; more, or more than fit in memory, are admitted as others end."""


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
        precision: Literal["model", "int8", "fp8"] = "model",
    ) -> None:
        if precision != "model":
            require_products(policy, precision)
        self._policy = policy
        self._precision: Literal["model", "int8", "fp8"] = precision
        self._copies: dict[Precision, DecodingCopy] = {}
        self._seed = seed
        self._max_rows = max_rows
        self._version = 0

    async def load(self, weights: Weights) -> None:
        """Take note of the new version: the parameters themselves are shared with the learner."""
        self._version = weights.version
        self._copies.clear()

    async def sample(
        self, prompts: Sequence[Prompt], settings: SamplingSettings, step: int, *, stream: str = "train"
    ) -> AsyncIterator[Group]:
        """Yield each prompt's Group when its last completion ends; rewards get a turn between any two tokens (on CUDA,
        any `graphed.LOOK` tokens).

        Raises DataError for a prompt that leaves no room for max_new_tokens in the model's positions.
        """
        encoded = [prompt_tokens(self._policy, prompt, settings.max_new_tokens) for prompt in prompts]
        longest, completions = max(map(len, encoded), default=0), settings.group_size
        room = min(rows_that_fit(self._policy, longest, completions, settings.max_new_tokens), self._max_rows)
        loops = loops_for(min(room, len(prompts) * completions), self._policy.device)
        shares = shares_of(len(prompts), completions, max(1, min(loops, room // completions)))
        on_cuda = self._policy.device.type == "cuda" and self._policy.fused_forward() is not None
        decoding = (GraphedDecoding if on_cuda else Decoding)(
            policy=self._policy,
            decoder=self._decoder(stream),
            settings=settings,
            room=room // len(shares),
            version=self._version,
        )
        given: Sequence[Sequence[int]] | Prefill = encoded
        if sum(map(len, shares)) > len(prompts):  # several loops have the same prompt: it is read once, by all cores
            with torch.inference_mode(), self._policy.arithmetic():
                given = decoding.read(encoded, range(len(prompts)))
        parts = [partial(self._written, decoding, prompts, given, share, step, stream) for share in shares]
        rollouts: list[list[Rollout]] = [[] for _ in prompts]
        try:
            async for number, written in interleave(parts):
                rollouts[number] += written
                if len(rollouts[number]) == completions:
                    yield Group(
                        prompt=prompts[number],
                        prompt_tokens=encoded[number],
                        rollouts=tuple(sorted(rollouts[number], key=lambda rollout: rollout.index)),
                        step=step if stream == "train" else 0,
                    )
        finally:
            self._copies.pop("bf16", None)  # made quickly; what learns needs the memory, and changes the weights

    def _decoder(self, stream: str) -> Policy | DecodingCopy:
        """What decodes: a copy of the weights where one is faster or asked for, made once per version."""
        policy = self._policy
        precision: Precision
        if self._precision != "model" and stream == "train":
            precision = self._precision
        elif policy.compute == torch.bfloat16 != policy.head.weight.dtype and policy.fused_forward() is not None:
            precision = "bf16"
        else:
            return policy
        if precision not in self._copies:
            with torch.inference_mode():
                self._copies[precision] = DecodingCopy(policy, precision)
        return self._copies[precision]

    def _written(
        self,
        decoding: Decoding,
        prompts: Sequence[Prompt],
        given: Sequence[Sequence[int]] | Prefill,
        share: Share,
        step: int,
        stream: str,
    ) -> Iterator[list[tuple[int, list[Rollout]]]]:
        """What ended in each turn of a loop (often nothing): (number of the prompt, its completions of this share)."""
        rows = [
            [
                Row(
                    group=place,
                    index=i,
                    uniforms=uniforms(
                        seed=self._seed, stream=stream, step=step, prompt_id=prompts[number].id, index=i,
                        start=0, count=decoding.settings.max_new_tokens,
                    ),
                )
                for i in indices
            ]
            for place, (number, indices) in enumerate(share)
        ]  # fmt: skip
        numbers = [number for number, _ in share]
        own = given.some(numbers) if isinstance(given, Prefill) else [given[number] for number in numbers]
        for ended in decoding.run(own, rows):
            yield [(share[place][0], [self._rollout(prompts[share[place][0]], row) for row in rows[place]])
                   for place in ended]  # fmt: skip

    def _rollout(self, prompt: Prompt, row: Row) -> Rollout:
        assert row.stop is not None
        written = row.tokens[:-1] if row.stop == "eos" else row.tokens
        return Rollout(
            prompt_id=prompt.id,
            index=row.index,
            tokens=tuple(row.tokens),
            logprobs=tuple(row.logprobs),
            text=self._policy.chat.decode(written),
            stop=row.stop,
            version=self._version,
        )


def shares_of(prompts: int, completions: int, loops: int) -> list[Share]:
    """What each loop writes: whole groups, or equal parts of them where there are fewer prompts than loops."""
    parts = max((n for n in range(1, loops // max(1, prompts) + 1) if completions % n == 0), default=1)
    size = completions // parts
    everything = [(number, range(at, at + size)) for number in range(prompts) for at in range(0, completions, size)]
    return [everything[i::loops] for i in range(max(1, min(loops, len(everything))))]


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
