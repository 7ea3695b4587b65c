"""The in-process chat model: equal replies with and without shared beginnings, log-probabilities of a plain forward."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.sampler import engine, trunk, weighing
from charter.sampler.draw import uniforms
from charter.sampler.engine import LocalChat
from charter.sampler.sharing import Family, common_length, families
from charter.sampler.trunk import packs
from charter.types import ChatReply, ChatRequest, ChoiceReply, ChoiceRequest

EXAMPLES = "Here is how it is done, and what is wanted of you now."


def requests(n: int, **changed: Any) -> list[ChatRequest]:
    """Two families and some on their own: a long system message, another, none."""
    systems = (EXAMPLES, EXAMPLES.upper(), None)
    found: list[ChatRequest] = []
    for i in range(n):
        system = systems[i % 3]
        first = ({"role": "system", "content": system},) if system else ()
        given = {
            "max_new_tokens": (5, 12)[i % 2],
            "temperature": (1.0, 0.0)[i // 2 % 2],
            "begin": ("", "So")[i // 4 % 2],
        }
        user = {"role": "user", "content": "x" * (i % 5) + str(i)}
        found.append(ChatRequest(id=f"r{i}", messages=(*first, user), **(given | changed)))
    return found


def replies(policy: Any, asked: list[ChatRequest], **settings: Any) -> dict[str, ChatReply]:
    async def run() -> dict[str, ChatReply]:
        return {r.id: r async for r in LocalChat(policy, **({"name": "t", "seed": 0} | settings)).generate(asked)}

    return asyncio.run(run())


def weighed(policy: Any, asked: list[ChoiceRequest]) -> dict[str, ChoiceReply]:
    async def run() -> dict[str, ChoiceReply]:
        return {r.id: r async for r in LocalChat(policy, name="t", seed=0).choice_logprobs(asked)}

    return asyncio.run(run())


def apart(sequences: Any, *, least: int = 2) -> list[Family]:
    return [Family(shared=0, rows=(i,)) for i in range(len(sequences))]


def test_a_reply_is_the_same_alone_together_and_without_sharing(tiny_policy, family, monkeypatch):
    policy = tiny_policy(family)
    asked = requests(15)
    monkeypatch.setattr(engine, "LEAST_FAMILY", 2)
    together = replies(policy, asked)
    assert len(together) == 15
    assert {reply.stop for reply in together.values()} <= {"eos", "length"}
    assert replies(policy, asked[::-1], max_rows=4) == together
    for one in asked[:2]:
        assert replies(policy, [one]) == {one.id: together[one.id]}
    monkeypatch.setattr(engine, "families", apart)
    assert replies(policy, asked) == together


def test_sharing_is_used(tiny_policy, monkeypatch):
    policy = tiny_policy("llama")
    forwarded: list[int] = []
    real = policy.hidden
    monkeypatch.setattr(policy, "hidden", lambda t, p, layout: forwarded.append(len(t)) or real(t, p, layout))
    asked = [
        ChatRequest(id=str(i), messages=({"role": "user", "content": EXAMPLES + f"{i:02}"},), max_new_tokens=1)
        for i in range(20)
    ]
    replies(policy, asked)
    prompt = len(policy.chat.encode_prompt(asked[0].messages))
    shared = common_length(*(policy.chat.encode_prompt(one.messages) for one in (asked[0], asked[-1])))
    assert shared > 40
    assert forwarded == [shared + 20 * (prompt - shared)]


def test_tokens_are_drawn_with_the_numbers_of_the_requests_own_name(tiny_policy):
    policy = tiny_policy("llama")
    with torch.no_grad():
        policy.module.lm_head.weight.zero_()  # 259 tokens, equally likely: token = ⌊259 u⌋
    policy.chat.eos_ids = frozenset()
    asked = ChatRequest(id="named", messages=({"role": "user", "content": "?"},), max_new_tokens=9)
    u = uniforms(seed=5, stream="chat", step=0, prompt_id="named", index=0, start=0, count=9)
    reply = replies(policy, [asked], seed=5)["named"]
    assert reply.text == policy.chat.decode([math.floor(259 * x) for x in u])
    assert (reply.stop, reply.completion_tokens) == ("length", 9)
    assert replies(policy, [asked], seed=6)["named"].text != reply.text


def test_a_greedy_reply_is_the_models_own_and_begins_where_it_was_told_to(tiny_policy):
    policy = tiny_policy("qwen3")
    asked = ChatRequest(
        id="g", messages=({"role": "user", "content": "go"},), max_new_tokens=6, temperature=0, begin="I will"
    )
    reply = replies(policy, [asked])["g"]
    ids = [*policy.chat.encode_prompt(asked.messages), *policy.chat.tokenizer("I will")["input_ids"]]
    start = len(ids)
    policy.module.set_attn_implementation("eager")
    with torch.inference_mode():
        for _ in range(reply.completion_tokens):
            ids.append(int(policy.module(torch.tensor([ids])).logits[0, -1].argmax()))
    written = ids[start:-1] if reply.stop == "eos" else ids[start:]
    assert reply.text == policy.chat.decode(written)
    assert reply.prompt_tokens == start


def test_the_cache_grows_and_rows_end_at_different_times(tiny_policy):
    policy = tiny_policy("gemma2")
    asked = requests(12, max_new_tokens=120, begin="", temperature=1.0)
    together = replies(policy, asked)
    assert len({reply.completion_tokens for reply in together.values()}) > 3
    assert max(reply.completion_tokens for reply in together.values()) > 64
    for one in asked[:3]:
        assert replies(policy, [one]) == {one.id: together[one.id]}


def test_what_cannot_be_asked_fails_with_a_sentence(tiny_policy):
    policy = tiny_policy("llama")
    long = ChatRequest(id="long", messages=({"role": "user", "content": "x" * 240},), max_new_tokens=20)
    plain = ChatRequest(id="empty", messages=({"role": "text", "content": ""},), max_new_tokens=3)
    nothing = ChatRequest(id="none", messages=({"role": "user", "content": "x"},), max_new_tokens=0)
    got = replies(policy, [long, plain, nothing])
    tokens = len(policy.chat.encode_prompt(long.messages))
    assert got["long"].note == (
        f"the request has {tokens} tokens; with max_new_tokens = 20 that exceeds the model's 256 positions"
    )
    assert got["empty"].note == "the request is empty: it has no tokens to continue"
    assert (got["long"].stop, got["empty"].stop, got["none"].stop) == ("failed", "failed", "length")
    policy.chat.tokenizer.chat_template = None
    assert "has no chat template" in replies(policy, [nothing])["none"].note


def test_logits_that_are_not_finite_are_a_failure(tiny_policy):
    policy = tiny_policy("llama")
    with torch.no_grad():
        policy.module.lm_head.weight.fill_(float("nan"))
    asked = ChatRequest(id="r", messages=({"role": "user", "content": "x"},), max_new_tokens=4)
    assert replies(policy, [asked])["r"].note == "the logits of t are not finite"
    choice = ChoiceRequest(id="c", messages=asked.messages, choices=("A", "B"))
    assert weighed(policy, [choice])["c"] == ChoiceReply(id="c", logprobs=None, note="the logits of t are not finite")


@pytest.mark.parametrize("budget", [4096, 40])
def test_choices_have_the_log_probabilities_of_a_plain_forward(tiny_policy, family, budget, monkeypatch):
    policy = tiny_policy(family)
    monkeypatch.setattr(weighing, "PACK_TOKENS", budget)
    monkeypatch.setattr(trunk, "PACK_TOKENS", budget)
    asked = [
        ChoiceRequest(
            id=f"c{i}",
            messages=({"role": "user", "content": (EXAMPLES if i % 2 else "") + str(i)},),
            choices=("A", "B", "An", "other", "A")[: 2 + i % 4],
            begin=("", "It is ")[i // 2 % 2],
        )
        for i in range(8)
    ]
    got = weighed(policy, asked)
    policy.module.set_attn_implementation("eager")
    for one in asked:
        head = (*policy.chat.encode_prompt(one.messages), *policy.chat.tokenizer(one.begin)["input_ids"])
        for text, logprob in zip(one.choices, got[one.id].logprobs, strict=True):
            tail = policy.chat.tokenizer(text)["input_ids"]
            with torch.inference_mode():
                table = torch.log_softmax(policy.module(torch.tensor([[*head, *tail]])).logits[0], -1)
            expected = sum(table[len(head) - 1 + i, token].item() for i, token in enumerate(tail))
            assert logprob == pytest.approx(expected, abs=3e-5)


def test_choices_without_tokens_or_room_are_failures(tiny_policy):
    policy = tiny_policy("llama")
    hello = ({"role": "user", "content": "hello"},)
    got = weighed(
        policy,
        [
            ChoiceRequest(id="empty", messages=hello, choices=("A", "")),
            ChoiceRequest(id="none", messages=hello, choices=()),
            ChoiceRequest(id="long", messages=({"role": "user", "content": "x" * 250},), choices=("A", "B")),
            ChoiceRequest(id="good", messages=hello, choices=("A", "B")),
        ],
    )
    assert got["empty"].note == "the choice '' has no tokens"
    assert got["none"].note == "the request has no choices"
    assert got["long"].note.endswith("tokens with its longest choice; the model has 256 positions")
    assert [got[name].logprobs is None for name in ("empty", "none", "long", "good")] == [True, True, True, False]


def test_two_families_are_told_apart_and_small_ones_stay_where_they_are():
    a, b = [1, *range(100, 200)], [1, *range(300, 400)]
    sequences = [[*a, i] for i in range(4)] + [[*b, i] for i in range(3)] + [[1, 7], [1, 8, 9]]
    assert sorted(families(sequences, least=2), key=lambda f: f.rows) == [
        Family(shared=101, rows=(0, 1, 2, 3)),
        Family(shared=101, rows=(4, 5, 6)),
        Family(shared=1, rows=(7, 8)),
    ]
    # three are too few to leave; four are not
    assert sorted((f.shared, len(f.rows)) for f in families(sequences, least=4)) == [(1, 5), (101, 4)]


@given(
    st.lists(st.lists(st.integers(0, 2), max_size=9), max_size=24),
    st.integers(2, 5),
)
@settings(max_examples=200, deadline=None)
def test_families_part_the_sequences_and_share_what_they_say(sequences, least):
    found = families(sequences, least=least)
    assert sorted(i for family in found for i in family.rows) == list(range(len(sequences)))
    for family in found:
        first = sequences[family.rows[0]]
        assert all(sequences[i][: family.shared] == first[: family.shared] for i in family.rows)
        assert all(len(sequences[i]) >= family.shared for i in family.rows)
        reaches = {tuple(sequences[i][: family.shared + 1]) for i in family.rows}
        assert len(reaches) > 1 or any(len(sequences[i]) == family.shared for i in family.rows)
    # never more tokens than with one trunk for all

    def cost(parts: list[Family]) -> int:
        return sum(f.shared + sum(len(sequences[i]) - f.shared for i in f.rows) for f in parts)

    if sequences:
        trunk_of_all = len(max((p for p in (sequences[0][:n] for n in range(10))
                                if all(s[: len(p)] == p for s in sequences)), key=len))  # fmt: skip
        assert cost(found) <= cost([Family(shared=trunk_of_all, rows=tuple(range(len(sequences))))])


@given(st.lists(st.integers(1, 3000), max_size=40), st.integers(0, 5000))
def test_packs_cover_everything_once_within_their_bounds(lengths, shared):
    parts = packs(lengths, shared)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(len(lengths)))
    for part in parts:
        inside = lengths[part]
        assert len(inside) == 1 or sum(inside) <= trunk.PACK_TOKENS
        assert len(inside) == 1 or len(inside) * (shared + max(inside)) <= trunk.PACK_CELLS
