"""The client of an OpenAI-compatible endpoint, against one that answers, delays, fails, refuses and drops."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the tests have no packages

from sampler.failing_endpoint import FailingEndpoint, answer_to

from charter.errors import BudgetError, RunError, UsageError
from charter.sampler.budget import most_prompt_tokens
from charter.sampler.remote import OpenAIChat
from charter.sampler.remote_http import _causes, _wait_of
from charter.types import ChatReply, ChatRequest, ChoiceRequest, Usage

FIVE = ("429", "500", "half", "dropped", "garbage")


def request(i: int, text: str = "", **changed: Any) -> ChatRequest:
    given = {"id": f"r{i}", "messages": ({"role": "user", "content": text or f"say {i} and ünï ✓"},)}
    return ChatRequest(**(given | {"max_new_tokens": 3, "temperature": 0.5} | changed))


def chat(url: str, **changed: Any) -> OpenAIChat:
    given: dict[str, Any] = {"model": "m", "back_off_s": 0.005, "timeout_s": 20.0, "retries": 6}
    return OpenAIChat(url=url, **(given | changed))


def replies(model: OpenAIChat, requests: list[ChatRequest]) -> dict[str, ChatReply]:
    async def run() -> dict[str, ChatReply]:
        got = [reply async for reply in model.generate(requests)]
        assert len({reply.id for reply in got}) == len(got)
        return {reply.id: reply for reply in got}

    return asyncio.run(run())


def until_error(model: OpenAIChat, requests: list[ChatRequest]) -> tuple[list[ChatReply], Exception]:
    got: list[ChatReply] = []

    async def run() -> None:
        async for reply in model.generate(requests):
            got.append(reply)

    with pytest.raises(Exception) as caught:
        asyncio.run(run())
    return got, caught.value


def weighed(model: OpenAIChat, *choices: str, n: int = 1) -> list[Any]:
    asked = [
        ChoiceRequest(id=f"c{i}", messages=({"role": "user", "content": f"which? {i}"},), choices=choices)
        for i in range(n)
    ]

    async def run() -> list[Any]:
        return [reply async for reply in model.choice_logprobs(asked)]

    return asyncio.run(run())


def counts(usage: Usage) -> tuple[int, int, int, float]:
    return usage.requests, usage.prompt_tokens, usage.completion_tokens, usage.cost


def fault_of(body: dict[str, Any], tries: int, kinds: tuple[str, ...] = FIVE) -> str:
    """A fifth of the requests fail at their first try, a fifth of these at the second too."""
    digest = hashlib.sha256(json.dumps(body["messages"]).encode()).digest()
    fails = digest[0] % 5 == 0 and (tries == 1 or (tries == 2 and digest[1] % 5 == 0))
    return kinds[(digest[2] + tries) % len(kinds)] if fails else ""


def test_a_thousand_requests_of_which_a_fifth_fails_in_five_ways_equal_the_run_without_failures():
    requests = [request(i, f"say {i} to them", max_new_tokens=3) for i in range(1000)]
    prices = {"input_price": 2.0, "output_price": 10.0, "concurrency": 32}
    kinds = ("429", "500", "half", "answered and dropped", "garbage")
    with FailingEndpoint() as sound, FailingEndpoint(fault=lambda b, n: fault_of(b, n, kinds)) as failing:
        calm, tried = chat(sound.url, **prices), chat(failing.url, **prices)
        expected, got = replies(calm, requests), replies(tried, requests)
    assert got == expected
    assert len(got) == 1000
    assert got["r7"] == ChatReply(
        id="r7", text="meht ot 7", stop="length", prompt_tokens=4, completion_tokens=3
    )  # "say 7 to them" backwards is "meht ot 7 yas", cut after three words
    # each of 1,000 requests has 4 prompt tokens and 3 of its reply: (4 · 2 + 3 · 10) / 10⁶ each
    assert counts(tried.usage) == counts(calm.usage) == (1000, 4000, 3000, pytest.approx(0.038))
    assert set(failing.faults) - {""} == set(kinds)
    failed = sum(failing.faults.values())
    first = sum(bool(fault_of(body, 1)) for body in sound.bodies)
    assert 170 <= first <= 230
    assert (tried.usage.retries, tried.usage.failures) == (failed, 0)
    assert len(failing.bodies) == 1000 + failed
    # some were answered twice, because the first answer was lost, and counted once
    assert sum(n == 2 for n in failing.answered.values()) > 20


@pytest.mark.parametrize("kind", [*FIVE, "429 at once", "503", "answered and dropped", "no choices"])
def test_each_kind_of_failure_is_tried_again(kind):
    with FailingEndpoint(fault=lambda body, tries: kind if tries <= 2 else "") as endpoint:
        model = chat(endpoint.url)
        assert (
            replies(model, [request(0)])["r0"].text == answer_to(endpoint.bodies[0])["choices"][0]["message"]["content"]
        )
        assert (model.usage.requests, model.usage.retries, model.usage.failures) == (1, 2, 0)


def test_an_answer_that_takes_too_long_is_tried_again():
    with FailingEndpoint(fault=lambda body, tries: "slow" if tries == 1 else "") as endpoint:
        model = chat(endpoint.url, timeout_s=0.2)
        assert replies(model, [request(0)])["r0"].stop == "length"
        assert model.usage.retries == 1


def test_retry_after_is_waited_for():
    with FailingEndpoint(fault=lambda body, tries: "429" if tries <= 3 else "") as endpoint:
        begun = time.monotonic()
        replies(chat(endpoint.url, back_off_s=0.0), [request(0)])
        assert time.monotonic() - begun >= 0.06  # three times 0.02 s


def test_retry_after_as_seconds_as_a_date_and_as_nonsense():
    assert _wait_of("7") == 7.0
    assert _wait_of("-3") == 0.0
    assert _wait_of("100000") == 300.0
    assert _wait_of(formatdate(time.time() + 30, usegmt=True)) == pytest.approx(30, abs=2)
    assert [_wait_of(text) for text in ("", "soon", "nan")] == [None, None, None]


def test_retries_are_as_many_as_allowed_and_then_the_request_failed_and_the_others_did_not():
    def fault(body: dict[str, Any], tries: int) -> str:
        return "500" if "lost" in body["messages"][0]["content"] else ""

    with FailingEndpoint(fault=fault) as endpoint:
        model = chat(endpoint.url, retries=2)
        got = replies(model, [request(0), request(1, "lost"), request(2)])
    assert [got[f"r{i}"].stop for i in range(3)] == ["length", "failed", "length"]
    assert got["r1"].text == ""
    assert "status 500: injected 500 (3 tries)" in got["r1"].note
    assert (model.usage.requests, model.usage.failures, model.usage.retries) == (2, 1, 2)
    assert sum(b["messages"][0]["content"] == "lost" for b in endpoint.bodies) == 3


def test_no_more_requests_are_under_way_than_allowed():
    with FailingEndpoint(delay_s=0.01) as endpoint:
        model = chat(endpoint.url, concurrency=3)

        async def run() -> None:
            async def one(first: int) -> None:
                assert len([r async for r in model.generate([request(first + i) for i in range(10)])]) == 10

            await asyncio.gather(one(0), one(100))  # two calls share the bound

        asyncio.run(run())
        assert endpoint.most_at_once == 3
        assert 20 / 3 * 0.01 <= model.usage.seconds < 20  # wall time once, though two calls ran


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("fails", [False, True])
def test_the_budget_holds_to_the_request(concurrency, fails):
    # each request: 4 prompt tokens, 3 completion tokens: 7 used. At most: 15 bytes + 16 + the empty beginning's 16 + 64
    # = 111 and 3. With 1,000 tokens the n-th is sent while 7 (n − 1) + 114 ≤ 1000: n − 1 ≤ 126.6, so 127 are.
    requests = [request(i, f"say {i:03} to them", max_new_tokens=3) for i in range(1000)]
    begun = {"role": "assistant", "content": ""}
    assert most_prompt_tokens([*requests[0].messages, begun]) == 111
    with FailingEndpoint(fault=fault_of if fails else lambda b, n: "") as endpoint:
        model = chat(endpoint.url, concurrency=concurrency, budget_tokens=1000)
        got, error = until_error(model, requests)
    assert isinstance(error, BudgetError)
    assert "budget_tokens = 1000: 889 tokens are used and the next request may take 114" in str(error)
    assert len(got) == model.usage.requests == len({json.dumps(b) for b in endpoint.bodies}) == 127
    assert model.usage.prompt_tokens + model.usage.completion_tokens == 127 * 7


def test_the_budget_in_money_and_after_it_nothing_is_sent():
    # a request costs at most (111 · 1 + 3 · 4) / 10⁶ = 123 and really (4 + 12) / 10⁶ = 16: 300 allow 1 + ⌊177 / 16⌋
    with FailingEndpoint() as endpoint:
        model = chat(endpoint.url, input_price=1.0, output_price=4.0, budget=300e-6)
        got, error = until_error(model, [request(i, f"say {i:03} to them") for i in range(40)])
        assert isinstance(error, BudgetError)
        assert "0.000192 is spent and the next request may cost 0.000123" in str(error)
        assert len(got) == 12
        assert model.usage.cost == pytest.approx(192e-6)
        sent = len(endpoint.bodies)
        again, error = until_error(model, [request(99, "say 099 to them")])
        assert (again, len(endpoint.bodies)) == ([], sent)
        assert isinstance(error, BudgetError)


def test_without_a_usage_the_bound_is_what_the_budget_takes_and_the_reply_says_so():
    def answer(body: dict[str, Any]) -> Any:
        return {key: value for key, value in answer_to(body).items() if key != "usage"}

    with FailingEndpoint(answer) as endpoint:
        model = chat(endpoint.url, budget_tokens=300)
        got, error = until_error(model, [request(i, f"say {i:03} to them") for i in range(9)])
    assert len(got) == 2  # 114 each
    assert isinstance(error, BudgetError)
    assert {(r.prompt_tokens, r.note) for r in got} == {
        (0, "the server gave no usage: the tokens of this reply are not counted")
    }
    assert counts(model.usage) == (2, 0, 0, 0.0)


@pytest.mark.parametrize(
    ("status", "said", "kind", "told"),
    [
        (
            401,
            {"error": {"message": "bad key sk-secret"}},
            UsageError,
            r"status 401: bad key \[key\]. Check the key that",
        ),
        (403, {"detail": "no"}, UsageError, "status 403: no. Check the key"),
        (404, {"error": {"message": "no model m"}}, UsageError, r"no model m. Check url \(up to .* and model"),
        (
            400,
            {"error": {"message": "no temperature here"}},
            UsageError,
            "status 400: no temperature here. Check model",
        ),
        (307, {}, UsageError, "redirects to https://elsewhere.example/v1; give that address"),
        (402, {"error": "pay"}, RunError, "status 402: pay"),
        (429, {"error": {"message": "empty", "code": "insufficient_quota"}}, BudgetError, "empty. Everything answered"),
    ],
)
def test_what_concerns_every_request_ends_at_once_with_the_servers_sentence(status, said, kind, told):
    with FailingEndpoint(lambda body: (status, said)) as endpoint:
        model = chat(endpoint.url, key="sk-secret", concurrency=1)
        with pytest.raises(kind, match=told) as caught:
            replies(model, [request(i) for i in range(20)])
    assert len(endpoint.bodies) == 1
    assert "sk-secret" not in str(caught.value)
    assert "authorization: Bearer sk-secret" in endpoint.heads[0].replace("Authorization", "authorization")
    assert "sk-secret" not in model.name


def test_what_was_under_way_is_yielded_before_the_error():
    def answer(body: dict[str, Any]) -> Any:
        return (404, {"error": "gone"}) if "r0" in body["messages"][0]["content"] else answer_to(body)

    with FailingEndpoint(answer, delay_s=0.02) as endpoint:
        got, error = until_error(chat(endpoint.url, concurrency=4), [request(i, f"r{i} x") for i in range(50)])
        assert isinstance(error, UsageError)
        assert {r.id for r in got} == {f"r{i}" for i in range(1, len(endpoint.bodies))}
        assert 3 <= len(got) <= 7


@pytest.mark.parametrize(
    "error",
    [
        {"message": "too many", "code": "context_length_exceeded"},
        {"message": "This model's maximum context length is 8 tokens"},
        {"message": "no", "code": "content_filter"},
    ],
)
def test_a_request_that_is_too_long_or_filtered_fails_alone(error):
    def answer(body: dict[str, Any]) -> Any:
        return (400, {"error": error}) if "bad" in body["messages"][0]["content"] else answer_to(body)

    with FailingEndpoint(answer) as endpoint:
        model = chat(endpoint.url)
        got = replies(model, [request(0, "bad"), request(1), request(2)])
    assert [got[f"r{i}"].stop for i in range(3)] == ["failed", "length", "length"]
    assert error["message"] in got["r0"].note
    assert sum(b["messages"][0]["content"] == "bad" for b in endpoint.bodies) == 1  # never tried again


def test_no_endpoint_an_unknown_host_and_no_tls_are_sentences(monkeypatch):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(RunError, match=rf"connection to http://127.0.0.1:{port}/v1 failed .*\(3 tries\). Everything"):
        replies(chat(f"http://127.0.0.1:{port}/v1", retries=2, concurrency=1), [request(i) for i in range(100)])
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(RunError, match=r"the host nowhere.invalid of url is not known \(.*\); check url"):
        replies(chat("http://nowhere.invalid/v1", retries=0), [request(0)])
    monkeypatch.undo()
    with FailingEndpoint() as endpoint, pytest.raises(UsageError, match=r"does not speak TLS as expected .*http://"):
        replies(chat(endpoint.url.replace("http:", "https:")), [request(0)])
    model = chat("https://somewhere.example/v1")
    untrusted = ssl.SSLCertVerificationError(1, "self-signed certificate")
    untrusted.verify_message = "self-signed certificate"
    outer = OSError("wrapped")
    outer.__cause__ = untrusted
    assert untrusted in _causes(outer)
    said = model._endpoint._unreachable(outer)
    assert isinstance(said, UsageError)
    assert "certificate of somewhere.example is not trusted: self-signed certificate" in str(said)


def test_an_endpoint_that_goes_away_ends_the_call_after_as_many_as_run_at_a_time():
    with FailingEndpoint(
        fault=lambda body, tries: "dropped" if "say 0" not in body["messages"][0]["content"] else ""
    ) as e:
        model = chat(e.url, retries=1, concurrency=1)
        got, error = until_error(model, [request(i) for i in range(100)])
    assert [r.stop for r in got] == ["length", "failed", "failed"]
    assert isinstance(error, RunError)
    assert len(e.bodies) == 1 + 3 * 2


@pytest.mark.parametrize(
    "url",
    ["", "ftp://x/v1", "127.0.0.1:8000", "http://", "http://user:sk@h/v1", "http://h/v1?k=sk", "http://h:99999/v1"],
)
def test_an_address_that_cannot_be_used_is_refused_without_telling_what_is_secret(url):
    with pytest.raises(UsageError, match="is no address of an endpoint") as caught:
        chat(url)
    assert "user:sk" not in str(caught.value)


def test_a_key_of_other_characters_and_money_without_a_price_are_refused():
    with pytest.raises(UsageError, match="characters other than printable ASCII"):
        chat("http://h/v1", key="sk-\n")
    with pytest.raises(UsageError, match="there is no price"):
        chat("http://h/v1", budget=1.0)


def message(content: object, finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    told = {"message": {"role": "assistant", "content": content, **more}, "finish_reason": finish}
    return {"choices": [told], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}


@pytest.mark.parametrize(
    ("answer", "text", "stop", "note"),
    [
        (message("yes"), "yes", "eos", ""),
        (message(""), "", "eos", ""),
        (message("cut", "length"), "cut", "length", ""),
        (message("cut", None), "cut", "length", ""),  # three tokens, as many as allowed, and no reason
        (message([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab", "eos", ""),
        (message("said", reasoning_content="thought"), "said", "eos", ""),
        (message(None, refusal="I can't."), "I can't.", "eos", "the model used its field for refusals"),
        (message(None), "", "failed", "the answer has no text (finish_reason 'stop')"),
        (message(None, "length", reasoning="hm"), "", "failed", "spent all 3 tokens on its reasoning"),
        (message("half of", "content_filter"), "", "failed", "content filter withheld"),
    ],
)
def test_what_an_answer_says(answer, text, stop, note):
    with FailingEndpoint(lambda body: answer) as endpoint:
        model = chat(endpoint.url)
        got = replies(model, [request(0)])["r0"]
    assert (got.text, got.stop) == (text, stop)
    assert note in got.note if note else not got.note
    assert len(endpoint.bodies) == 1
    failed = stop == "failed"
    assert model.usage.requests + model.usage.failures == 1
    assert model.usage.failures == failed
    assert (model.usage.prompt_tokens, model.usage.completion_tokens) == (5, 3)  # paid, whatever came of it


def test_what_is_sent():
    with FailingEndpoint() as endpoint:
        replies(chat(endpoint.url), [request(0, "lone \ud800 half", max_new_tokens=7)])
        sent = endpoint.bodies[0]
        assert sent == {
            "model": "m", "messages": [{"role": "user", "content": "lone \ud800 half"}], "temperature": 0.5,
            "max_tokens": 7,
        }  # fmt: skip
        assert "authorization" not in endpoint.heads[0].lower()
        begun = request(1, begin="Answer:")
        with pytest.raises(UsageError, match='set prefill = "continue_final_message"'):
            replies(chat(endpoint.url), [begun])
        able = chat(endpoint.url, prefill="continue_final_message")
        assert able.capabilities == {"generate", "choice_logprobs", "begin"}
        replies(able, [begun])
        assert endpoint.bodies[-1]["messages"][-1] == {"role": "assistant", "content": "Answer:"}
        assert endpoint.bodies[-1]["continue_final_message"] is True
        assert endpoint.bodies[-1]["add_generation_prompt"] is False


def test_an_endpoint_that_wants_another_name_for_the_limit_gets_it():
    def answer(body: dict[str, Any]) -> Any:
        if "max_tokens" in body:
            return 400, {"error": {"message": "Use 'max_completion_tokens' instead of 'max_tokens'."}}
        return answer_to(body)

    with FailingEndpoint(answer) as endpoint:
        model = chat(endpoint.url, concurrency=1)
        assert {r.stop for r in replies(model, [request(i) for i in range(3)]).values()} == {"length"}
        assert len(endpoint.bodies) == 4
        assert model.usage.requests == 3


def test_choices_are_read_off_the_first_token():
    with FailingEndpoint() as endpoint:
        model = chat(endpoint.url)
        got = sorted(weighed(model, "A", " B", "D", n=3), key=lambda r: r.id)
        assert [r.id for r in got] == ["c0", "c1", "c2"]
        # "A" and " A" together have 0.5 + 0.1
        for reply in got:
            assert reply.logprobs == (pytest.approx(math.log(0.6)), pytest.approx(math.log(0.25)), -math.inf)
        none = weighed(model, "X", "Y")[0]
        assert none.logprobs == (-math.inf, -math.inf)
        assert none.note == "none of the choices is among the 4 likeliest tokens"
        body = endpoint.bodies[0]
        assert (body["max_tokens"], body["logprobs"], body["top_logprobs"], body["temperature"]) == (1, True, 20, 1.0)


@pytest.mark.parametrize("status", [200, 400])
def test_an_endpoint_without_logprobs_is_found_out_at_the_first_use(status):
    def answer(body: dict[str, Any]) -> Any:
        told = answer_to({**body, "logprobs": False})
        return told if status == 200 else (400, {"error": {"message": "logprobs is not supported"}})

    with FailingEndpoint(answer) as endpoint, pytest.raises(UsageError, match=r'shows no log-probabilities.* "cot"'):
        weighed(chat(endpoint.url, concurrency=1), "A", "B", n=9)
    assert len(endpoint.bodies) == 1


def test_an_endpoint_that_shows_only_five_is_asked_for_five():
    def answer(body: dict[str, Any]) -> Any:
        if body["top_logprobs"] > 5:
            return 400, {"error": {"message": "top_logprobs must be at most 5"}}
        return answer_to(body)

    with FailingEndpoint(answer) as endpoint:
        got = weighed(chat(endpoint.url, concurrency=1), "B", n=2)
        assert [r.logprobs for r in got] == [(pytest.approx(math.log(0.25)),)] * 2
        assert [b["top_logprobs"] for b in endpoint.bodies] == [20, 5, 5]


def test_a_call_that_is_left_early_leaves_nothing_open():
    with FailingEndpoint(delay_s=0.01) as endpoint:
        model = chat(endpoint.url, budget_tokens=10_000)

        async def run() -> None:
            stream = model.generate([request(i) for i in range(50)])
            async for _ in stream:
                break
            await stream.aclose()

        asyncio.run(run())
        assert model._endpoint._client is None
        assert model._budget._held == 0
        assert len(endpoint.bodies) < 50
        # and the next call, in another event loop, works
        assert len(replies(model, [request(i) for i in range(5)])) == 5


def test_the_pauses_grow_and_differ(monkeypatch):
    waited: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float, *rest: Any) -> None:
        waited.append(seconds)
        await real(0, *rest)

    with FailingEndpoint(fault=lambda body, tries: "500" if tries <= 4 else "") as endpoint:
        monkeypatch.setattr("asyncio.sleep", sleep)
        replies(chat(endpoint.url, back_off_s=0.5, retries=4), [request(0)])
    pauses = [w for w in waited if w > 0]
    assert len(pauses) == 4
    # 0.5 · 2ⁿ and a random part of up to 0.5
    assert all(0.5 * 2**n <= pause <= 0.5 * 2**n + 0.5 for n, pause in enumerate(pauses))
    assert Counter(round(p % 0.5, 9) for p in pauses).most_common(1)[0][1] < 4


def test_retries_and_keys_are_not_printed():
    code = (
        "import asyncio\n"
        "from charter.sampler.remote import OpenAIChat\n"
        "from charter.types import ChatRequest\n"
        "async def run():\n"
        "    model = OpenAIChat(url='http://127.0.0.1:1/v1', model='m', key='sk-secret', retries=2, back_off_s=0.01)\n"
        "    asked = ChatRequest(id='r', messages=({'role': 'user', 'content': 'x'},), max_new_tokens=1)\n"
        "    try:\n"
        "        async for reply in model.generate([asked]): print(reply)\n"
        "    except Exception as error: print(repr(error), model.name, vars(model))\n"
        "asyncio.run(run())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "(3 tries)" in done.stdout
    assert "sk-secret" not in done.stdout
