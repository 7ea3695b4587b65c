"""The in-process chat model: a policy of this process that answers all requests of a call together.

Requests are grouped by their limits and by how they begin: a beginning that many share (a system message, worked
examples) is computed once. A reply is a pure function of (weights, seed, request id, prompt), up to the rounding of
matrix products whose shape depends on the batch.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from charter.errors import ModelError
from charter.model.load import Policy
from charter.sampler.draw import choose, uniforms
from charter.sampler.metering import Meter
from charter.sampler.sharing import families
from charter.sampler.threads import interleave, loops_for
from charter.sampler.trunk import TrunkCache, rows_within_memory
from charter.sampler.weighing import Weighed, encode_choices, weigh
from charter.types import ChatReply, ChatRequest, ChoiceReply, ChoiceRequest, StopReason, Usage

MAX_ROWS = 256
"""Most replies written at once; more, or more than fit in memory, are taken in turns."""
LEAST_FAMILY = 6
"""Fewest requests that are decoded apart from the others because they begin alike."""
STREAM = "chat"
"""Name of these draws beside the samplers' own."""


@dataclass(slots=True)
class _Row:
    """A reply in the making."""

    request: ChatRequest
    prompt: tuple[int, ...]
    uniforms: np.ndarray
    tokens: list[int] = field(default_factory=list)


class LocalChat:
    """A ChatModel over a `Policy` in this process.

    name: identifies the weights (an asset's name, a folder's with the digest of its files).
    seed: with a request's id it fixes every draw.
    """

    def __init__(self, policy: Policy, *, name: str, seed: int, max_rows: int = MAX_ROWS) -> None:
        self.policy = policy
        self._name = name
        self._seed = seed
        self._max_rows = max_rows
        self._meter = Meter()

    @property
    def name(self) -> str:
        """What records remember it by."""
        return self._name

    @property
    def capabilities(self) -> frozenset[str]:
        """All of them."""
        return frozenset({"generate", "choice_logprobs", "begin"})

    @property
    def usage(self) -> Usage:
        """What was asked so far."""
        return self._meter.usage

    async def close(self) -> None:
        """Nothing is held open."""

    async def generate(self, requests: Sequence[ChatRequest]) -> AsyncIterator[ChatReply]:
        """Yield each reply as it ends; other tasks get a turn between any two tokens.

        A request that leaves no room for max_new_tokens in the model's positions, or that the chat template refuses,
        has a reply of stop "failed".
        """
        groups: dict[tuple[int, float], list[_Row]] = {}
        for request in requests:
            prompt = self._prompt(request)
            if isinstance(prompt, str):
                yield self._failed(request, prompt)
            elif request.max_new_tokens == 0:
                yield self._reply(request, prompt, (), "length")
            else:
                draws = uniforms(
                    seed=self._seed, stream=STREAM, step=0, prompt_id=request.id, index=0,
                    start=0, count=request.max_new_tokens,
                )  # fmt: skip
                groups.setdefault((request.max_new_tokens, request.temperature), []).append(
                    _Row(request, prompt, draws)
                )
        for group in groups.values():
            for shared, rows in self._turns(group):
                async for reply in interleave(self._parts(shared, rows)):
                    yield reply

    async def choice_logprobs(self, requests: Sequence[ChoiceRequest]) -> AsyncIterator[ChoiceReply]:
        """Yield each request's log-probabilities: of each choice's tokens as the reply's continuation, summed.

        A choice is tokenized together with the beginning it continues, as the model would have written it.
        """
        tasks: list[Weighed] = []
        by_task: list[ChoiceRequest] = []
        for request in requests:
            try:
                tasks.append(encode_choices(self.policy, request))
                by_task.append(request)
            except ModelError as error:
                self._meter.failed()
                yield ChoiceReply(id=request.id, logprobs=None, note=str(error))
        weighing = weigh(self.policy, tasks)
        while True:
            with self._meter.working():
                finished = next(weighing, None)
            if finished is None:
                break
            for number, logprobs in finished:
                yield self._answer(by_task[number], tasks[number], logprobs)
            await asyncio.sleep(0)

    def _parts(self, shared: int, rows: Sequence[_Row]) -> list[Callable[[], Iterator[list[ChatReply]]]]:
        """Decoding loops for rows that begin alike: the beginning is computed once for all of them."""
        most = rows[0].request.max_new_tokens
        with self._meter.working(), torch.inference_mode(), self.policy.arithmetic():
            cache = TrunkCache(self.policy, [row.prompt for row in rows], shared, most)
            loops = loops_for(len(rows), self.policy.device)
            shares = [range(i, len(rows), loops) for i in range(loops)]
            caches = [cache.part(share) for share in shares] if loops > 1 else [cache]
        return [
            partial(self._timed, partial(self._decode, part, [rows[i] for i in share]))
            for part, share in zip(caches, shares, strict=True)
        ]

    def _timed(self, part: Callable[[], Iterator[list[ChatReply]]]) -> Iterator[list[ChatReply]]:
        """What a decoding loop yields; its steps count as work, the time between them does not."""
        steps = part()
        while True:
            with self._meter.working():
                finished = next(steps, None)
            if finished is None:
                return
            yield finished

    def _prompt(self, request: ChatRequest) -> tuple[int, ...] | str:
        """The ids that the reply continues, or why there are none."""
        chat, limit = self.policy.chat, self.policy.max_positions
        try:
            begin = chat.tokenizer(request.begin, add_special_tokens=False)["input_ids"] if request.begin else ()
            prompt = (*chat.encode_prompt(request.messages), *begin)
        except ModelError as error:
            return str(error)
        if not prompt:
            return "the request is empty: it has no tokens to continue"
        if limit is not None and len(prompt) + request.max_new_tokens > limit:
            return (
                f"the request has {len(prompt)} tokens; with max_new_tokens = {request.max_new_tokens} that exceeds "
                f"the model's {limit} positions"
            )
        return prompt

    def _turns(self, rows: Sequence[_Row]) -> Iterator[tuple[int, list[_Row]]]:
        """(tokens shared, rows) decoded together: alike in beginning and in length, and within memory."""
        # a row keeps a token of its own, whose hidden state draws the first one
        for family in families([row.prompt[:-1] for row in rows], least=LEAST_FAMILY):
            members = sorted((rows[i] for i in family.rows), key=lambda row: len(row.prompt))
            at = len(members)
            while at:  # the longest first: what memory cannot hold is met at once
                rest = len(members[at - 1].prompt) - family.shared
                room = rows_within_memory(self.policy, rest, members[at - 1].request.max_new_tokens)
                first = max(0, at - min(room, self._max_rows))
                yield family.shared, members[first:at]
                at = first

    def _decode(self, cache: TrunkCache, rows: Sequence[_Row]) -> Iterator[list[ChatReply]]:
        """One token for every live row per turn; yields the replies that ended in that turn (often none)."""
        policy, most = self.policy, rows[0].request.max_new_tokens
        with torch.inference_mode(), policy.arithmetic():
            logits = policy.head.logits(cache.last_hidden)
        live = list(rows)
        slots = list(range(len(rows)))  # of each live row in the cache
        for position in range(most):
            with torch.inference_mode(), policy.arithmetic():
                if position:
                    at = torch.tensor(slots, device=policy.device)
                    tokens = torch.tensor([row.tokens[-1] for row in live], device=policy.device)
                    hidden = policy.hidden(tokens, cache.positions(at), cache.layout(at))
                    logits = policy.head.logits(hidden)
                    cache.step += 1
                uniform = torch.tensor([row.uniforms[position] for row in live], dtype=torch.float64)
                chosen, logprobs = choose(logits, uniform.to(logits.device), temperature=live[0].request.temperature)
            done: list[ChatReply] = []
            still: list[int] = []
            for i, (row, token, logprob) in enumerate(zip(live, chosen.tolist(), logprobs.tolist(), strict=True)):
                row.tokens.append(token)
                if not math.isfinite(logprob):
                    done.append(self._failed(row.request, f"the logits of {self._name} are not finite"))
                elif token in policy.chat.eos_ids:
                    done.append(self._reply(row.request, row.prompt, row.tokens, "eos"))
                elif position + 1 == most:
                    done.append(self._reply(row.request, row.prompt, row.tokens, "length"))
                else:
                    still.append(i)
            live, slots = [live[i] for i in still], [slots[i] for i in still]
            yield done
            if not live:
                return
            slots = cache.pack(slots) or slots

    def _reply(self, request: ChatRequest, prompt: Sequence[int], tokens: Sequence[int], stop: StopReason) -> ChatReply:
        self._meter.answered(len(prompt), len(tokens))
        return ChatReply(
            id=request.id,
            text=self.policy.chat.decode(tokens[:-1] if stop == "eos" else tokens),
            stop=stop,
            prompt_tokens=len(prompt),
            completion_tokens=len(tokens),
        )

    def _failed(self, request: ChatRequest, note: str) -> ChatReply:
        self._meter.failed()
        return ChatReply(id=request.id, text="", stop="failed", note=note)

    def _answer(self, request: ChoiceRequest, task: Weighed, logprobs: tuple[float, ...]) -> ChoiceReply:
        if any(map(math.isnan, logprobs)):
            self._meter.failed()
            return ChoiceReply(id=request.id, logprobs=None, note=f"the logits of {self._name} are not finite")
        self._meter.answered(len(task.prompt), 0)
        return ChoiceReply(id=request.id, logprobs=logprobs, prompt_tokens=len(task.prompt))
