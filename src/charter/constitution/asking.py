"""Ask a chat model each thing once: what the journal has is not asked again, what comes is written before it is used.

replies = await ask(model, requests, journal)          # request id → ChatReply
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from charter.constitution.records import record_id
from charter.protocols import ChatModel
from charter.run.records import Journal
from charter.types import ChatReply, ChatRequest, ChoiceReply, ChoiceRequest, Message

Progress = Callable[[int, int], None]
"""(answered so far, asked in all): called as replies come."""


def chat_request(
    model: str, messages: Sequence[Message], *, max_new_tokens: int, temperature: float, salt: str = "", begin: str = ""
) -> ChatRequest:
    """A request under the id of everything that decides its reply.

    model: the name of who will answer. salt: tells apart requests that are otherwise equal and must be drawn anew
    (the number of a completion, the seed of the run).
    """
    content = {
        "model": model, "messages": list(messages), "max_new_tokens": max_new_tokens,
        "temperature": temperature, "salt": salt, "begin": begin,
    }  # fmt: skip
    return ChatRequest(
        id=record_id("reply", content), messages=tuple(messages), max_new_tokens=max_new_tokens,
        temperature=temperature, begin=begin,
    )  # fmt: skip


def choice_request(
    model: str, messages: Sequence[Message], choices: Sequence[str], *, begin: str = ""
) -> ChoiceRequest:
    """A request for the log-probabilities of choices, under the id of everything that decides them."""
    content = {"model": model, "messages": list(messages), "choices": list(choices), "begin": begin}
    id = record_id("choice", content)
    return ChoiceRequest(id=id, messages=tuple(messages), choices=tuple(choices), begin=begin)


async def ask(
    model: ChatModel, requests: Sequence[ChatRequest], journal: Journal, progress: Progress | None = None
) -> dict[str, ChatReply]:
    """Request id → reply, out of the journal or from the model.

    A reply that failed is returned and not written, so that the next run asks again.
    Raises: BudgetError, with every reply that came before it written.
    """
    replies = {
        request.id: ChatReply(**_without_kind(row))
        for request in requests
        if (row := journal.get("reply", request.id)) is not None
    }
    missing = {request.id: request for request in requests if request.id not in replies}
    total, done = len(missing) + len(replies), len(replies)
    if missing:
        try:
            async for reply in model.generate(list(missing.values())):
                replies[reply.id] = reply
                if reply.stop != "failed":
                    journal.append({"kind": "reply", **asdict(reply)})
                done += 1
                if progress is not None:
                    progress(done, total)
        finally:
            journal.sync()
    return replies


async def ask_choices(
    model: ChatModel, requests: Sequence[ChoiceRequest], journal: Journal, progress: Progress | None = None
) -> dict[str, ChoiceReply]:
    """Request id → log-probabilities of its choices, as `ask` does; -inf is written as null."""
    answers: dict[str, ChoiceReply] = {}
    for request in requests:
        if (row := journal.get("choice", request.id)) is not None:
            told = tuple(float("-inf") if value is None else value for value in row["logprobs"])
            answers[request.id] = ChoiceReply(**{**_without_kind(row), "logprobs": told})
    missing = {request.id: request for request in requests if request.id not in answers}
    total, done = len(missing) + len(answers), len(answers)
    if missing:
        try:
            async for answer in model.choice_logprobs(list(missing.values())):
                answers[answer.id] = answer
                if answer.logprobs is not None:
                    told = [None if value == float("-inf") else value for value in answer.logprobs]
                    journal.append({"kind": "choice", **asdict(answer), "logprobs": told})
                done += 1
                if progress is not None:
                    progress(done, total)
        finally:
            journal.sync()
    return answers


def _without_kind(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "kind"}
