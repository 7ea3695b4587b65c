"""Draws: the generator against published vectors, the inverse of the distribution by hand and by statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.sampler.draw import choose, philox, uniforms


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # known answers of Philox4x32-10 as published with Random123 (kat_vectors)
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_words(counter, key, words):
    got = philox(np.array([counter], dtype=np.uint32), np.array(key, dtype=np.uint32))
    assert tuple(int(w) for w in got[0]) == words


def named(**changed):
    name = {"seed": 0, "stream": "train", "step": 1, "prompt_id": "p", "index": 0, "start": 0, "count": 64}
    return uniforms(**(name | changed))


@pytest.mark.parametrize("changed", [{"seed": 1}, {"stream": "eval"}, {"step": 2}, {"prompt_id": "q"}, {"index": 1}])
def test_every_part_of_the_name_changes_the_numbers(changed):
    assert not np.any(named() == named(**changed))


def test_a_number_depends_on_its_position_not_on_what_was_asked_before():
    assert np.array_equal(named(count=64)[10:20], named(start=10, count=10))


def test_uniforms_are_uniform():
    numbers = np.concatenate([named(index=i, count=1000) for i in range(20)])
    assert numbers.min() >= 0
    assert numbers.max() < 1
    # 20,000 numbers: the mean's standard error is 0.29 / 141 = 0.002; five of them
    assert abs(numbers.mean() - 0.5) < 0.01
    counts, _ = np.histogram(numbers, bins=20, range=(0, 1))
    chi_squared = float(((counts - 1000) ** 2 / 1000).sum())
    assert chi_squared < 43.8  # 99.9 % quantile of χ² with 19 degrees of freedom


def test_a_token_is_where_the_cumulative_distribution_passes_the_number():
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.4]])).repeat(6, 1)
    numbers = torch.tensor([0.0, 0.0999, 0.1001, 0.2999, 0.5999, 0.9999], dtype=torch.float64)
    tokens, logprobs = choose(logits, numbers, temperature=1.0)
    assert tokens.tolist() == [0, 0, 1, 1, 2, 3]
    torch.testing.assert_close(logprobs, torch.log(torch.tensor([0.1, 0.1, 0.2, 0.2, 0.3, 0.4])))


def test_temperature_changes_the_distribution_and_the_reported_logprob():
    logits = torch.tensor([[0.0, math.log(3.0)]])
    # τ = 2: weights 1 and √3, so p(0) = 1 / (1 + √3) = 0.366
    for number, token, p in ((0.36, 0, 0.3660), (0.37, 1, 0.6340)):
        tokens, logprobs = choose(logits, torch.tensor([number], dtype=torch.float64), temperature=2.0)
        assert tokens.item() == token
        assert logprobs.exp().item() == pytest.approx(p, abs=1e-4)


def test_greedy_takes_the_likeliest_and_reports_its_probability_at_temperature_one():
    tokens, logprobs = choose(torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([0.0]).double(), temperature=0)
    assert tokens.item() == 1
    assert logprobs.exp().item() == pytest.approx(0.75)


def test_top_k_and_top_p_leave_the_likeliest_tokens_and_renormalise():
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.4]]))
    number = torch.tensor([0.0], dtype=torch.float64)
    tokens, logprobs = choose(logits, number, temperature=1.0, top_k=2)
    assert (tokens.item(), round(logprobs.exp().item(), 4)) == (2, round(0.3 / 0.7, 4))
    # 0.4 alone is below 0.65, 0.4 + 0.3 reaches it
    tokens, logprobs = choose(logits, number, temperature=1.0, top_p=0.65)
    assert (tokens.item(), round(logprobs.exp().item(), 4)) == (2, round(0.3 / 0.7, 4))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 700), st.floats(0, 1, exclude_max=True), st.integers(0, 2**31))
def test_a_drawn_token_always_has_mass_and_agrees_with_a_plain_search(vocabulary, number, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, vocabulary, generator=generator, dtype=torch.float64) * 5
    logits[0, torch.rand(vocabulary, generator=generator) < 0.3] = float("-inf")
    logits[0, seed % vocabulary] = 0.0
    tokens, _ = choose(logits, torch.tensor([number], dtype=torch.float64), temperature=1.0)
    cumulative = torch.softmax(logits, -1).cumsum(-1)[0]
    assert logits[0, tokens.item()] > float("-inf")
    low = cumulative[tokens.item() - 1].item() if tokens.item() else 0.0
    assert low - 1e-12 <= number <= cumulative[tokens.item()].item() + 1e-12


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
def test_the_ends_of_the_interval_draw_tokens_with_mass(number):
    logits = torch.full((1, 600), float("-inf"))
    logits[0, [3, 300, 500]] = 0.0
    tokens, _ = choose(logits, torch.tensor([number], dtype=torch.float64), temperature=1.0)
    assert tokens.item() == (3 if number == 0 else 500)
