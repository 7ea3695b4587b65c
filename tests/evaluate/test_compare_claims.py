"""The sentences beside a comparison: each verdict from numbers that are made up, so that it is known beforehand."""

from __future__ import annotations

from typing import Any

import pytest

from charter.evaluate.compare_claims import FAILS, HOLDS, PARTLY, UNKNOWN, claims_of

GIB = 2**30


def column(title: str, **changes: Any) -> dict[str, Any]:
    usage = {"completions": 100, "completions_unused": 40}
    plain = {
        "title": title,
        "peak_bytes": 2 * GIB,
        "baseline_bytes": GIB // 2,
        "estimate_bytes": GIB,
        "flops": 10.0,
        "seconds": 100.0,
        "time": {"sample": 60.0, "score": 0.0, "learn": 40.0, "other": 0.0},
        "peak_device_bytes": None,
        "processor_seconds": 50.0,
        "processor_time": {"sample": 30.0, "learn": 20.0, "other": 0.0},
        "tokens_sampled": 1000.0,
        "tokens_forward": {"sampling": 1000.0},
        "cannot_use": usage,
        "models_resident": [{"name": "policy"}],
        "by_seed": {"0": {"kl": {"k3": 0.1}}, "1": {"kl": {"k3": 0.2}}},
    }
    return plain | changes


def record(**columns: dict[str, Any]) -> dict[str, Any]:
    return {"methods": columns, "differences": []}


def difference(of: str, over: str, value: float, low: float, high: float) -> dict[str, Any]:
    return {"of": of, "over": over, "difference": value, "interval_both": [low, high]}


def verdict(told: dict[str, Any], beginning: str) -> tuple[str, str]:
    """(verdict, sentence) of the claim that begins so."""
    found = [one for one in claims_of(told) if one["said"].startswith(beginning)]
    assert len(found) == 1
    return found[0]["verdict"], found[0]["here"]


@pytest.mark.parametrize(("peak", "expected"), [(4 * GIB, HOLDS), (4 * GIB - 1, FAILS), (3 * GIB, FAILS)])
def test_half_is_at_most_half_of_the_measured_peak(peak: int, expected: str):
    two = record(grpo=column("GRPO"), ppo=column("PPO", peak_bytes=peak, estimate_bytes=3 * GIB))
    two["differences"] = [difference("ppo", "grpo", 0, -1, 1)]
    assert verdict(two, "GRPO needs half")[0] == expected


def test_half_tells_the_peaks_with_and_without_what_was_there_before_and_the_estimate():
    # 2 of 3.5 GiB; 1.5 of 3 GiB above the half that was there before; 1 of 4 GiB by construction
    two = record(grpo=column("GRPO"), ppo=column("PPO", peak_bytes=7 * GIB // 2, estimate_bytes=4 * GIB))
    here = verdict(two, "GRPO needs half")[1]
    assert "was 0.57 of PPO's (2.00 GiB and 3.50 GiB)" in here
    assert "before any model was there 0.50" in here
    assert "by construction 0.25" in here


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"flops": 5.0, "processor_seconds": 25.0, "peak_bytes": GIB}, HOLDS),
        ({"flops": 5.0, "processor_seconds": 75.0, "peak_bytes": 3 * GIB}, PARTLY),
        ({"flops": 20.0, "processor_seconds": 75.0, "peak_bytes": 3 * GIB}, FAILS),
    ],
)
def test_cheapest_is_asked_of_operations_time_and_memory(changes: dict[str, Any], expected: str):
    two = record(dpo=column("DPO", **changes), rejection_sft=column("Rejection SFT"))
    found, here = verdict(two, "DPO is the cheapest")
    assert found == expected
    if expected == PARTLY:
        assert "Rejection SFT had the least processor time in steps (DPO 1.50 times that)" in here
        assert here.startswith("DPO had the fewest operations; ")


def test_given_pairs_are_told_from_sampled_ones():
    given = record(dpo=column("DPO", tokens_forward={"policy_learning": 1.0}), rejection_sft=column("Rejection SFT"))
    assert "learned from given pairs" in verdict(given, "DPO is the cheapest")[1]


def test_faster_is_per_sampled_token():
    # 50 s for 1,000 tokens against 75 s for 2,000: 0.05 and 0.0375 s a token
    two = record(grpo=column("GRPO"), ppo=column("PPO", processor_seconds=75.0, tokens_sampled=2000.0))
    found, here = verdict(two, "Without a critic")
    assert found == FAILS
    assert "took 1.33 of PPO's processor time" in here


def test_on_a_device_the_clock_on_the_wall_counts():
    two = record(grpo=column("GRPO", peak_device_bytes=GIB), ppo=column("PPO", seconds=200.0, peak_device_bytes=GIB))
    two["differences"] = [difference("ppo", "grpo", 0, -1, 1)]
    assert "took 0.50 of PPO's time" in verdict(two, "Without a critic")[1]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (difference("ppo", "grpo", 0.1, 0.01, 0.2), HOLDS),
        (difference("ppo", "grpo", -0.1, -0.2, -0.01), FAILS),
        (difference("ppo", "grpo", 0.1, -0.01, 0.2), UNKNOWN),
        (difference("grpo", "ppo", -0.1, -0.2, -0.01), HOLDS),  # the other way round
    ],
)
def test_a_difference_is_one_where_its_interval_leaves_out_0(row: dict[str, Any], expected: str):
    two = record(ppo=column("PPO"), grpo=column("GRPO"))
    two["differences"] = [row]
    found, here = verdict(two, "PPO gets more")
    assert found == expected
    assert ("[+0.010, +0.200]" in here) == (expected == HOLDS)
    assert "PPO could not use 40%" in here


def test_dpo_learns_what_ppo_learns_unless_ppo_is_better():
    two = record(ppo=column("PPO"), dpo=column("DPO"))
    for low, high, expected in ((0.01, 0.2, FAILS), (-0.2, -0.01, HOLDS), (-0.1, 0.1, UNKNOWN)):
        two["differences"] = [difference("ppo", "dpo", (low + high) / 2, low, high)]
        assert verdict(two, "DPO learns what")[0] == expected


def test_the_control_is_beaten_by_both_by_one_or_by_none():
    three = record(ppo=column("PPO"), grpo=column("GRPO"), rejection_sft=column("Rejection SFT"))
    better, unsure = (0.1, 0.01, 0.2), (0.1, -0.1, 0.3)
    for ppo, grpo, expected in ((better, better, HOLDS), (better, unsure, PARTLY), (unsure, unsure, UNKNOWN)):
        three["differences"] = [
            difference("ppo", "grpo", 0, -1, 1),
            difference("ppo", "rejection_sft", *ppo),
            difference("grpo", "rejection_sft", *grpo),
        ]
        assert verdict(three, "Reinforcement learning goes further")[0] == expected


def test_most_of_the_time_is_more_than_half():
    little = {"sample": 25.0, "learn": 25.0, "other": 0.0}
    told = record(ppo=column("PPO", processor_time=little), dpo=column("DPO"))
    found, here = verdict(told, "Most of the time")
    assert found == PARTLY
    assert "PPO 50%, DPO 60%" in here


def test_nearer_needs_seeds_that_do_not_overlap():
    far = {"0": {"kl": {"k3": 0.3}}, "1": {"kl": {"k3": 0.4}}}
    across = {"0": {"kl": {"k3": 0.15}}, "1": {"kl": {"k3": 0.4}}}
    for by_seed, expected in ((far, HOLDS), (across, UNKNOWN), ({"0": far["0"]}, UNKNOWN)):
        two = record(rejection_sft=column("Rejection SFT", by_seed=by_seed), grpo=column("GRPO"))
        two["differences"] = [difference("grpo", "rejection_sft", 0, -1, 1)]
        assert verdict(two, "Reinforcement learning stays nearer")[0] == expected


def test_a_claim_is_left_out_where_its_methods_were_not_run():
    alone = claims_of(record(grpo=column("GRPO")))
    assert [one["said"] for one in alone] == ["Most of the time goes into sampling."]


def test_different_seeds_are_not_compared():
    found, here = verdict(record(ppo=column("PPO"), grpo=column("GRPO")), "PPO gets more")
    assert found == UNKNOWN
    assert "had different seeds" in here
