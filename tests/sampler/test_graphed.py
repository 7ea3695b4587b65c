"""Steps of fixed shapes draw what the ordinary loop draws. Graphs themselves need CUDA; what they capture runs here."""

from __future__ import annotations

import asyncio
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from charter.errors import DivergedError
from charter.sampler import graphed, local
from charter.sampler.graphed import LOOK, GraphedDecoding
from charter.sampler.local import LocalSampler
from charter.types import Group, Prompt

PROMPTS = [Prompt(id=f"p{i}", messages=({"role": "user", "content": "word " * i},)) for i in range(1, 8)]


def how(**changed: Any) -> Any:
    return SimpleNamespace(
        **({"group_size": 4, "max_new_tokens": 3 * LOOK + 5, "temperature": 1.0, "top_p": 1.0, "top_k": 0} | changed)
    )


def draw(policy: Any, settings: Any, prompts: list[Prompt] = PROMPTS, max_rows: int = 512) -> dict[str, Group]:
    async def run() -> dict[str, Group]:
        sampler = LocalSampler(policy, 0, max_rows=max_rows)
        return {g.prompt.id: g async for g in sampler.sample(prompts, settings, 1)}

    return asyncio.run(run())


def both(policy: Any, monkeypatch: pytest.MonkeyPatch, settings: Any, **more: Any) -> tuple[Any, Any]:
    plain = draw(policy, settings, **more)
    with monkeypatch.context() as patch:
        patch.setattr(local, "Decoding", GraphedDecoding)
        return plain, draw(policy, settings, **more)


def assert_same(plain: dict[str, Group], other: dict[str, Group]) -> None:
    assert plain.keys() == other.keys()
    for name, group in plain.items():
        for a, b in zip(group.rollouts, other[name].rollouts, strict=True):
            assert (a.tokens, a.stop) == (b.tokens, b.stop)
            assert b.logprobs == pytest.approx(a.logprobs, abs=2e-5)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral", "gemma2", "gpt2"])
def test_it_draws_what_the_ordinary_loop_draws(tiny_policy, monkeypatch, family):
    assert_same(*both(tiny_policy(family), monkeypatch, how()))


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.7}, {"temperature": 0.0}, {"top_p": 0.8}, {"top_k": 5}], ids=str
)
def test_with_every_way_to_draw(tiny_policy, monkeypatch, settings):
    assert_same(*both(tiny_policy("llama"), monkeypatch, how(**settings)))


@pytest.mark.parametrize("max_rows", [512, 8])
def test_rows_that_end_early_leave_and_others_are_admitted(tiny_policy, monkeypatch, max_rows):
    policy = tiny_policy("llama")
    with torch.no_grad():
        policy.module.lm_head.weight.zero_()  # every token equally likely: ends come at any time
    policy.chat.eos_ids = frozenset({2, *range(100, 120)})
    plain, other = both(policy, monkeypatch, how(max_new_tokens=90), max_rows=max_rows)
    assert_same(plain, other)
    lengths = [len(r.tokens) for group in other.values() for r in group.rollouts]
    assert min(lengths) < LOOK < max(lengths)


def test_the_cache_grows_beyond_its_first_capacity(tiny_policy, monkeypatch):
    policy = tiny_policy("llama")
    policy.chat.eos_ids = frozenset()
    plain, other = both(policy, monkeypatch, how(max_new_tokens=150), prompts=PROMPTS[:2])
    assert_same(plain, other)
    assert {len(r.tokens) for group in other.values() for r in group.rollouts} == {150}


def test_one_token_is_drawn_without_a_step(tiny_policy, monkeypatch):
    assert_same(*both(tiny_policy("llama"), monkeypatch, how(max_new_tokens=1)))


def test_logits_that_are_not_finite_are_told(tiny_policy, monkeypatch):
    policy = tiny_policy("llama")
    with torch.no_grad():
        policy.module.lm_head.weight.fill_(float("nan"))
    monkeypatch.setattr(local, "Decoding", GraphedDecoding)
    with pytest.raises(DivergedError, match="not finite"):
        draw(policy, how())


def cohort_that_captures(policy: Any, monkeypatch: pytest.MonkeyPatch, captured: Any) -> None:
    """Let decoding on this processor believe in graphs, with another way to capture."""
    monkeypatch.setattr(local, "Decoding", GraphedDecoding)
    monkeypatch.setattr(graphed, "_given_up", [])
    own = graphed._Cohort.__init__

    def begin(self: Any, *given: Any) -> None:
        own(self, *given)
        self._capture = not graphed._given_up

    monkeypatch.setattr(graphed._Cohort, "__init__", begin)
    monkeypatch.setattr(graphed._Cohort, "_captured", captured)


def test_a_graph_replaces_the_step_until_shapes_change(tiny_policy, monkeypatch):
    policy = tiny_policy("llama")
    policy.chat.eos_ids = frozenset()
    plain = draw(policy, how(max_new_tokens=150), PROMPTS[:2])
    captures: list[int] = []

    def captured(self: Any) -> Any:
        captures.append(self.cache.capacity)
        return self._step

    cohort_that_captures(policy, monkeypatch, captured)
    assert_same(plain, draw(policy, how(max_new_tokens=150), PROMPTS[:2]))
    assert captures == [64, 128, 150]  # one for every size of the cache, none in between


def test_a_graph_that_cannot_be_captured_is_given_up_with_a_warning(tiny_policy, monkeypatch):
    policy = tiny_policy("llama")
    plain = draw(policy, how(), PROMPTS[:2])

    def captured(self: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    cohort_that_captures(policy, monkeypatch, captured)
    with pytest.warns(RuntimeWarning, match="without CUDA graphs: operation not permitted when stream is capturing$"):
        assert_same(plain, draw(policy, how(), PROMPTS[:2]))


@pytest.mark.parametrize("fault", ["nothing", "other tokens", "no progress"])
def test_a_graph_that_does_not_do_what_the_step_does_is_not_used(tiny_policy, monkeypatch, fault):
    policy = tiny_policy("llama")
    plain = draw(policy, how(), PROMPTS[:2])

    def captured(self: Any) -> Any:
        def replay() -> None:
            if fault == "nothing":
                return
            self._step()
            if fault == "other tokens":
                self._tokens.index_fill_(1, self._cell[None], 3)
            else:
                self._cell -= 1

        return replay

    cohort_that_captures(policy, monkeypatch, captured)
    with pytest.warns(RuntimeWarning, match="drew other tokens than the step itself") as told:
        assert_same(plain, draw(policy, how(), PROMPTS[:2]))
    assert len(told) == 1  # what fails once is not tried again


def test_memory_that_runs_out_is_not_taken_for_a_graph_that_fails(tiny_policy, monkeypatch):
    def captured(self: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    cohort_that_captures(tiny_policy("llama"), monkeypatch, captured)
    with pytest.raises(torch.OutOfMemoryError):
        draw(tiny_policy("llama"), how(), PROMPTS[:1])


def test_nothing_is_captured_on_this_processor(tiny_policy, monkeypatch):
    monkeypatch.setattr(local, "Decoding", GraphedDecoding)
    monkeypatch.setattr(graphed._Cohort, "_captured", lambda self: pytest.fail("a capture on a CPU"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(tiny_policy("llama"), how(), PROMPTS[:1])
