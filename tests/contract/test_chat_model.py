"""What every ChatModel promises, run on every implementation."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the tests have no packages

from sampler.failing_endpoint import FailingEndpoint, answer_to

from charter.protocols import ChatModel
from charter.sampler.engine import LocalChat
from charter.sampler.remote import OpenAIChat
from charter.sampler.scripted import ScriptedChat
from charter.types import ChatReply, ChatRequest, ChoiceReply, ChoiceRequest

TOO_MUCH = "word " * 100
TEXTS = ("hello", "", "naïve 日本語 🙂 Ω", "a\nb\t\x00c", TOO_MUCH, "hello")


def refusing(body: dict[str, Any]) -> Any:
    if body["messages"][-1]["content"] == TOO_MUCH:
        return 400, {"error": {"message": "too long", "code": "context_length_exceeded"}}
    return answer_to(body)


@pytest.fixture(params=["local", "scripted list", "scripted function", "openai"])
def model(request: pytest.FixtureRequest, tiny_policy: Any) -> Iterator[ChatModel]:
    def too_long(asked: ChatRequest | ChoiceRequest) -> str:
        return "too long" if asked.messages[-1]["content"] == TOO_MUCH else ""

    if request.param == "openai":
        with FailingEndpoint(refusing) as endpoint:
            yield OpenAIChat(url=endpoint.url, model="m", back_off_s=0.01)
    elif request.param == "local":
        yield LocalChat(tiny_policy("llama"), name="local:tiny", seed=0)
    elif request.param == "scripted list":
        yield ScriptedChat(["one two three four five", "ünï"], {"A": -0.1, "B": -2.5}, fails=too_long)
    else:
        choices = {"A": -0.1, "B": -2.5}
        yield ScriptedChat(lambda r: r.messages[-1]["content"], lambda r: choices, fails=too_long, name="echo")


REQUESTS = [
    ChatRequest(id=f"r{i}", messages=({"role": "user", "content": text},), max_new_tokens=4, temperature=i % 2)
    for i, text in enumerate(TEXTS)
]
CHOICES = [
    ChoiceRequest(id=f"c{i}", messages=({"role": "user", "content": text},), choices=("A", "B"))
    for i, text in enumerate(TEXTS)
]


def generated(model: ChatModel, requests: list[ChatRequest]) -> list[ChatReply]:
    async def run() -> list[ChatReply]:
        return [reply async for reply in model.generate(requests)]

    return asyncio.run(run())


def chosen(model: ChatModel, requests: list[ChoiceRequest]) -> list[ChoiceReply]:
    async def run() -> list[ChoiceReply]:
        return [reply async for reply in model.choice_logprobs(requests)]

    return asyncio.run(run())


def test_it_is_a_chat_model_with_a_name_and_capabilities(model):
    assert isinstance(model, ChatModel)
    assert model.name
    assert {"generate", "choice_logprobs"} <= model.capabilities <= {"generate", "choice_logprobs", "begin"}


def test_each_request_is_answered_once_and_one_that_cannot_be_fails_alone(model):
    got = generated(model, REQUESTS)
    assert sorted(reply.id for reply in got) == [f"r{i}" for i in range(6)]
    for reply in got:
        if reply.id == "r4":
            assert (reply.stop, reply.text, reply.completion_tokens) == ("failed", "", 0)
            assert reply.note
        else:
            assert reply.stop in ("eos", "length")
            assert reply.completion_tokens <= 4
            reply.text.encode("utf-8")
    usage = model.usage
    assert (usage.requests, usage.failures, usage.retries) == (5, 1, 0)
    assert usage.prompt_tokens == sum(reply.prompt_tokens for reply in got)
    assert usage.completion_tokens == sum(reply.completion_tokens for reply in got)
    assert usage.seconds > 0
    assert usage.cost == 0


def test_the_same_request_has_the_same_reply_in_any_company(model):
    first = {reply.id: reply for reply in generated(model, REQUESTS)}
    assert {reply.id: reply for reply in generated(model, REQUESTS[::-1])} == first
    assert generated(model, REQUESTS[2:3]) == [first["r2"]]


def test_choices_are_weighed_in_the_order_asked(model):
    got = {reply.id: reply for reply in chosen(model, CHOICES)}
    assert set(got) == {f"c{i}" for i in range(6)}
    swapped = ChoiceRequest(id="swapped", messages=CHOICES[0].messages, choices=("B", "A"))
    (other,) = chosen(model, [swapped])
    assert got["c4"].logprobs is None
    assert got["c4"].note
    for i in (0, 1, 2, 3, 5):
        told = got[f"c{i}"].logprobs
        assert told is not None
        a, b = told
        assert math.exp(a) + math.exp(b) <= 1
        assert max(a, b) < 0
    first = got["c0"].logprobs
    assert first is not None
    assert other.logprobs == pytest.approx(first[::-1], abs=1e-5)
    assert (model.usage.requests, model.usage.failures) == (6, 1)


def test_nothing_asked_is_nothing_answered(model):
    assert generated(model, []) == []
    assert chosen(model, []) == []
    assert model.usage.requests == 0


def test_it_can_be_closed(model):
    generated(model, REQUESTS[:1])
    asyncio.run(model.close())


def test_a_call_left_after_its_first_reply_leaves_a_usable_model(model):
    async def run() -> None:
        stream = model.generate(REQUESTS)
        async for _ in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(run())
    assert len(generated(model, REQUESTS)) == 6
