"""A chat model behind an OpenAI-compatible endpoint (/chat/completions): vLLM, SGLang, llama.cpp, Ollama, a provider.

Requests run side by side up to a bound. A try that failed for a cause that may pass is repeated, with a pause that
doubles and a random part; each request is counted once, however often it was tried. What an endpoint is asked and what
it costs is metered from its own `usage`, and a budget is held to the request (`charter.sampler.budget`).

Not here: what a try's outcome means (`remote_http`), what an answer says (`remote_answers`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import stamina

from charter.errors import CharterError, RunError, UsageError
from charter.sampler.budget import Budget, most_prompt_tokens
from charter.sampler.metering import Meter
from charter.sampler.remote_answers import MOST_SHOWN, Answer, Shown, Unusable, read_answer, read_shown
from charter.sampler.remote_http import Endpoint, Passing, Refused
from charter.types import ChatReply, ChatRequest, ChoiceReply, ChoiceRequest, Message, Usage

Prefill = Literal["none", "continue_final_message"]
Asked = TypeVar("Asked", ChatRequest, ChoiceRequest)
Told = TypeVar("Told", ChatReply, ChoiceReply)
LONGEST_BACK_OFF_S = 60.0
"""Longest pause between two tries unless the server asks for a longer one (seconds)."""
_OF_ONE_REQUEST = ("context_length", "context length", "context window", "content_filter", "content filter", "policy",
                   "too long", "maximum length", "string_above_max_length")  # fmt: skip
_FEWER_SHOWN = 5
# retries are counted and told once; without a handler Python would print a line without content for each of them
logging.getLogger("stamina").addHandler(logging.NullHandler())


class _GivenUp(Exception):  # noqa: N818 - reads as the condition it names
    """One request that cannot be answered. used: (prompt, completion) tokens that were paid all the same."""

    def __init__(self, note: str, used: tuple[int, int] = (0, 0), *, away: bool = False) -> None:
        super().__init__(note)
        self.used = used
        self.away = away


class OpenAIChat:
    """A ChatModel behind an endpoint.

    url: up to and including /v1. model: the endpoint's name for it. key: sent in the header, never told or recorded.
    concurrency: requests under way at a time. timeout_s: for one try (seconds). retries: further tries of a request.
    input_price, output_price: of a million tokens. budget: most cost in the same currency. budget_tokens: most tokens.
    prefill: how the endpoint continues a reply that is begun: "continue_final_message" (vLLM, SGLang) or not at all.
    back_off_s: first pause before a try is repeated; it doubles up to a minute (seconds).

    Raises: UsageError for an address or key that cannot be used.
    """

    def __init__(
        self,
        *,
        url: str,
        model: str,
        key: str = "",
        concurrency: int = 8,
        timeout_s: float = 60.0,
        retries: int = 5,
        input_price: float = 0.0,
        output_price: float = 0.0,
        budget: float | None = None,
        budget_tokens: int | None = None,
        prefill: Prefill = "none",
        back_off_s: float = 0.5,
    ) -> None:
        self._endpoint = Endpoint(url, key, connections=concurrency, timeout_s=timeout_s)
        self._model = model
        self._concurrency = concurrency
        self._retries = retries
        self._back_off_s = back_off_s
        self._prefill = prefill
        self._meter = Meter(input_price=input_price, output_price=output_price)
        if budget is not None and not (input_price or output_price):
            raise UsageError("budget is in money and there is no price; give input_price and output_price")
        self._limited = budget is not None or budget_tokens is not None
        self._budget = Budget(self._meter, most_cost=budget, most_tokens=budget_tokens)
        self._open = 0
        self._turns: asyncio.Semaphore | None = None
        self._answered = False  # at all: the endpoint is there and understands
        self._away = 0  # requests in a row that were given up without a word from the endpoint
        self._shows = False  # it has shown log-probabilities
        self._shown = MOST_SHOWN
        self._length_key = "max_tokens"

    @property
    def name(self) -> str:
        """Model and place: openai:MODEL@HOST/PATH."""
        parts = urlsplit(self._endpoint.url)
        return f"openai:{self._model}@{parts.netloc}{parts.path}"

    @property
    def capabilities(self) -> frozenset[str]:
        """What it can do: "begin" where it was said to continue a message; log-probabilities show at first use."""
        return frozenset({"generate", "choice_logprobs", *(["begin"] if self._prefill != "none" else [])})

    @property
    def usage(self) -> Usage:
        """What was asked so far."""
        return self._meter.usage

    async def close(self) -> None:
        """Nothing is held open between calls."""

    def generate(self, requests: Sequence[ChatRequest]) -> AsyncIterator[ChatReply]:
        """Yield each reply as it comes. Raises: BudgetError before a request that could exceed the budget, UsageError
        or RunError for what concerns every request; in each case after what is under way was yielded."""
        return self._all(requests, self._generate)

    def choice_logprobs(self, requests: Sequence[ChoiceRequest]) -> AsyncIterator[ChoiceReply]:
        """Yield each answer as it comes: log-probabilities of the first token, summed over spellings that differ in
        white space; -inf for a choice that is not among the likeliest the endpoint shows (20, or 5).

        Raises: as `generate`, and UsageError where the endpoint shows none.
        """
        return self._all(requests, self._weigh)

    async def _all(self, requests: Sequence[Asked], answer: Callable[[Asked], Awaitable[Told]]) -> AsyncIterator[Told]:
        if self._prefill == "none" and any(request.begin for request in requests):
            raise UsageError(
                f"a request gives the beginning of its reply, and {self.name} was not said to continue one; where the "
                'server can (vLLM, SGLang), set prefill = "continue_final_message"'
            )
        ready: asyncio.Queue[Told | None] = asyncio.Queue()
        waiting = iter(requests)
        errors: list[CharterError] = []

        async def work() -> None:
            try:
                for request in waiting:
                    if errors:
                        return
                    ready.put_nowait(await answer(request))
            except CharterError as error:
                errors.append(error)
            finally:
                ready.put_nowait(None)

        async with self._opened():
            workers = [asyncio.create_task(work()) for _ in range(min(self._concurrency, len(requests)))]
            try:
                for _ in workers:
                    while (reply := await ready.get()) is not None:
                        yield reply
                await asyncio.gather(*workers)  # an error that is none of ours is not lost
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        if errors:
            raise errors[0]

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[None]:
        """The connections, shared by the calls that run at the same time and closed after the last of them."""
        if not self._open:
            await self._endpoint.__aenter__()
            self._turns = asyncio.Semaphore(self._concurrency)
        self._open += 1
        try:
            with self._meter.working():
                yield
        finally:
            self._open -= 1
            if not self._open:
                await self._endpoint.__aexit__()

    async def _generate(self, request: ChatRequest) -> ChatReply:
        body = {**self._messages(request), "temperature": request.temperature}
        try:
            told = await self._ask(request, body, request.max_new_tokens, lambda a: read_answer(a, request))
        except _GivenUp as fault:
            return ChatReply(id=request.id, text="", stop="failed", note=str(fault))
        return told.reply

    async def _weigh(self, request: ChoiceRequest) -> ChoiceReply:
        body = {**self._messages(request), "temperature": 1.0, "logprobs": True, "top_logprobs": self._shown}
        try:
            told = await self._ask(request, body, 1, lambda a: read_shown(a, request))
        except _GivenUp as fault:
            return ChoiceReply(id=request.id, logprobs=None, note=str(fault))
        if told.reply.logprobs is None and not self._shows:
            raise UsageError(self._shows_none())
        self._shows = True
        return told.reply

    def _shows_none(self) -> str:
        return (
            f"{self.name} shows no log-probabilities, which the judge's mode needs; "
            'use mode = "cot" or "score" without them, or another endpoint'
        )

    def _messages(self, request: ChatRequest | ChoiceRequest) -> dict[str, Any]:
        messages: list[Message] = [
            # a plain text to continue has no role of its own there
            {"role": "user" if m["role"] == "text" else m["role"], "content": m["content"]}
            for m in request.messages
        ]
        body: dict[str, Any] = {"model": self._model, "messages": messages}
        if request.begin:
            body["messages"] = [*messages, {"role": "assistant", "content": request.begin}]
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return body

    async def _ask(
        self,
        request: ChatRequest | ChoiceRequest,
        body: dict[str, Any],
        max_tokens: int,
        read: Callable[[dict[str, Any]], Answer | Shown],
    ) -> Any:
        """What an answer says, with the money for it set aside before and settled after."""
        assert self._turns is not None
        begun: Message = {"role": "assistant", "content": request.begin}
        reserved = (most_prompt_tokens([*request.messages, begun]), max_tokens)
        async with self._turns:
            await self._budget.reserve(*reserved)
            used: tuple[int, int] | None = (0, 0)
            try:
                told = await self._tried(body, max_tokens, read)
                used = told.used
                self._answered, self._away = True, 0
                self._meter.answered(*(used or (0, 0)))
            except Unusable as fault:
                used = fault.used
                self._answered, self._away = True, 0
                self._give_up(used)
                raise _GivenUp(str(fault)) from None
            except _GivenUp as fault:
                self._give_up(None)
                self._away = self._away + 1 if fault.away else 0
                if fault.away and (not self._answered or self._away >= max(self._concurrency, 3)):
                    raise RunError(
                        f"{fault}. Everything answered so far is kept; go on when the endpoint is there"
                    ) from None
                raise
            finally:
                # without a usage nothing is known but the bound, and that is what a budget must assume
                self._budget.settle(reserved, reserved if used is None else used)
        return told

    def _give_up(self, used: tuple[int, int] | None) -> None:
        self._meter.failed()
        if used:
            self._meter.paid(*used)

    async def _tried(
        self, body: dict[str, Any], max_tokens: int, read: Callable[[dict[str, Any]], Answer | Shown]
    ) -> Answer | Shown:
        tries = 0
        try:
            async for attempt in stamina.retry_context(
                on=_pause, attempts=self._retries + 1, timeout=None, wait_initial=self._back_off_s,
                wait_max=LONGEST_BACK_OFF_S, wait_jitter=self._back_off_s,
            ):  # fmt: skip
                with attempt:
                    tries += 1
                    if tries > 1:
                        self._meter.retried()
                    return read(await self._adapted(body, max_tokens))
        except Passing as fault:
            raise _GivenUp(f"{fault} ({tries} {'tries' if tries > 1 else 'try'})", away=fault.away) from None
        raise AssertionError("stamina ends with a result or an exception")

    async def _adapted(self, body: dict[str, Any], max_tokens: int) -> dict[str, Any]:
        """One try, in the dialect that the endpoint turns out to speak."""
        while True:
            sent = {**body, self._length_key: max_tokens}
            if "top_logprobs" in sent:
                sent["top_logprobs"] = self._shown
            try:
                return await self._endpoint.post("/chat/completions", sent)
            except Refused as fault:
                if "max_completion_tokens" in fault.said and "max_tokens" in sent:
                    self._length_key = "max_completion_tokens"
                elif "top_logprobs" in fault.said and sent.get("top_logprobs", 0) > _FEWER_SHOWN:
                    self._shown = _FEWER_SHOWN
                else:
                    raise self._refusal(fault, sent) from None

    def _refusal(self, fault: Refused, sent: dict[str, Any]) -> Exception:
        about = f"{fault.codes} {fault.said}".lower()
        if "logprobs" in sent and "logprobs" in about and not self._shows:
            return UsageError(f"{self._shows_none()} (it answered: {fault.said})")
        if self._answered or any(word in about for word in _OF_ONE_REQUEST):
            return _GivenUp(f"{self._endpoint.url} refused the request, {fault}")
        return UsageError(
            f"{self._endpoint.url} refuses what it is sent, {fault}. Check model and the stage's settings"
        )


def _pause(error: Exception) -> bool | timedelta:
    if not isinstance(error, Passing):
        return False
    if error.wait_s is None:
        return True
    return timedelta(seconds=error.wait_s * random.uniform(1.0, 1.25))  # else all who were refused come back at once
