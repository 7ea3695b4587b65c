"""The page of the methods: tables and sentences from stored figures that are made up, so that they are known before."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
GIB = 2**30
TAKEN = {"revision": "abc", "date": "2030-01-02T00:00:00Z"}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A benchmark's module by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def trial(method: str, rate: float, score: float, low: float) -> dict[str, Any]:
    return {
        "method": method,
        "trial": {"optimizer.learning_rate": rate},
        "score": score,
        "score_interval": [low, score + 0.1],
        "gain": 0.1,
        "gain_interval": [-0.1, 0.2],
        "kl": 0.25,
        "steps": 4,
        "processor_seconds": 61.4,
    }


def test_the_grid_has_six_trials_for_every_method(bench):
    search = bench("compare_search")
    assert {method: len(search.trials(method)) for method in search.GRID} == dict.fromkeys(search.GRID, 6)
    for method in search.GRID:
        assert {t["optimizer.learning_rate"] for t in search.trials(method)} == {1e-5, 2e-5, 4e-5}


def test_the_search_shows_the_best_first_and_says_how_sure_it_is(bench):
    trials = [trial("grpo", 1e-5, 0.2, 0.1), trial("grpo", 2e-5, 0.5, 0.4), trial("grpo", 4e-5, 0.45, 0.3)]
    about = {"tokens": 700, "dev_prompts": 64, "dev_samples": 2}
    found = {**TAKEN, **about, "trials": trials, "best": {"grpo": trials[2]}}
    text = bench("methods_page").search_part(found)
    rows = [line for line in text.splitlines() if line.startswith("| GRPO")]
    assert [row.split(" | ")[2] for row in rows] == [
        "`learning_rate` 2e-05", "`learning_rate` 4e-05 **chosen**", "`learning_rate` 1e-05"
    ]  # fmt: skip
    assert "| 0.500 [0.400, 0.600] | +0.100 [-0.100, +0.200] | 0.25 | 4 | 61 |" in text
    assert "GRPO: the scores of 1 of the other 2 trials lie within the best one's interval." in text
    assert {row.split(" | ")[1] for row in rows} == {"700"}


def test_a_second_round_is_what_is_chosen_from(bench):
    first, second = [trial("grpo", 4e-5, 0.5, 0.4)], [trial("grpo", 4e-5, 0.1, 0.0), trial("grpo", 2e-5, 0.4, 0.3)]
    found = {
        **TAKEN, "tokens": 700, "dev_prompts": 64, "dev_samples": 2, "trials": first, "final_tokens": 2700,
        "finals": second, "best": {"grpo": second[1]},
    }  # fmt: skip
    rows = [line for line in bench("methods_page").search_part(found).splitlines() if line.startswith("| GRPO")]
    assert [row.split(" | ")[1] + row.split(" | ")[2] for row in rows] == [
        "700`learning_rate` 4e-05", "2,700`learning_rate` 2e-05 **chosen**", "2,700`learning_rate` 4e-05"
    ]  # fmt: skip
    assert bench("compare_search").finals(first) == [
        {"optimizer.learning_rate": 4e-5}, {"optimizer.learning_rate": 2e-5}, {"optimizer.learning_rate": 1e-5}
    ]  # fmt: skip


def test_within_one_standard_error_the_trial_nearest_to_the_start_is_chosen(bench):
    """The highest has 0.50 [0.30, 0.70]: its standard error is 0.4 / 3.92 = 0.102, which 0.40 is within and 0.39 no."""
    top = {"score": 0.50, "score_interval": [0.30, 0.70], "kl": 0.9}
    near, far = {"score": 0.40, "kl": 0.5}, {"score": 0.39, "kl": 0.1}
    choose = bench("compare_search").chosen
    assert choose([top, near, far]) is near
    assert choose([top, far]) is top
    assert choose([top, near, {"score": 0.45, "kl": 0.5}])["score"] == 0.45


def test_the_half_is_told_from_the_measured_ratio(bench):
    def case(peak: float) -> dict[str, Any]:
        return {
            "parameters": 2_000_000,
            "models_resident": ["policy"],
            "peak_bytes": peak * GIB,
            "baseline_bytes": GIB / 2,
            "estimate_bytes": GIB,
        }

    ratio = {"peak_bytes": 0.5, "own_bytes": 0.4286, "estimate_bytes": 0.25}
    sized = {
        "cases": {"grpo": case(2), "grpo_kl": case(3), "ppo": case(4)},
        "ratios": {"grpo / ppo": ratio, "grpo_kl / ppo": {**ratio, "peak_bytes": 0.75}},
    }
    text = bench("methods_page").memory_part({**TAKEN, "sizes": {"tiny": sized}})
    assert "GRPO without a KL took 0.50 of PPO's peak: at most the half that is said." in text
    assert "GRPO with a KL took 0.75 of PPO's peak: more than the half that is said." in text
    assert "| 2 M | GRPO / PPO, a critic of its own | 0.50 | 0.43 | 0.25 |" in text


def test_both_methods_make_one_update_of_the_same_size(bench):
    memory = bench("memory_of_methods")
    assert "epochs = 1\nminibatches = 1\n" in memory.RECIPE
    for case in memory.CASES:
        text = memory.recipe_of(case, Path("folder"), "200m")
        assert text.count("prompts_per_step = 4") == 2
        assert ('name = "preference"' in text) == case.startswith("ppo")
