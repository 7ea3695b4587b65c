"""The registry of metrics, and the numbers of a step computed by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.run.metrics import METRICS, describe_groups, metric, metrics_glossary, unknown_metrics
from charter.types import Group, Prompt, Rollout, Score, Scored, StopReason

Row = tuple[float | None, int, StopReason]


def group(
    name: str, rows: list[Row], status: str = "failed", parts: list[dict[str, float | None]] | None = None
) -> Scored:
    prompt = Prompt(id=name, messages=({"role": "user", "content": name},))
    rollouts = tuple(
        Rollout(prompt_id=name, index=i, tokens=(5,) * n, logprobs=(-1.0,) * n, text="x", stop=stop, version=0)
        for i, (_, n, stop) in enumerate(rows)
    )
    scores = tuple(
        Score(value=value, parts=parts[i] if parts else {}, status="scored" if value is not None else status)  # type: ignore[arg-type]
        for i, (value, _, _) in enumerate(rows)
    )
    return Scored(group=Group(prompt=prompt, rollouts=rollouts, prompt_tokens=(1, 2, 3)), scores=scores)


def test_a_step_by_hand() -> None:
    one = group("a", [(1.0, 2, "eos"), (0.0, 4, "eos"), (0.0, 8, "length"), (0.0, 6, "eos")])
    two = group("b", [(1.0, 3, "eos"), (1.0, 3, "eos"), (None, 5, "eos"), (1.0, 1, "eos")])
    got = describe_groups([one, two], [(0.75, -0.25, -0.25, -0.25), (0.0, 0.0, None, 0.0)])
    # a: mean .25, squares .5625 + 3·.0625 = .75, /3 = .25, std .5;  b: all equal, 0
    assert got["reward"] == pytest.approx(4 / 7)
    assert got["reward_std"] == pytest.approx(0.25)
    assert got["frac_reward_zero_std"] == 0.5
    assert got["groups/signal"] == 0.5
    assert got["completions/mean_length"] == 32 / 8
    assert (got["completions/min_length"], got["completions/max_length"]) == (1, 8)
    assert got["completions/clipped_ratio"] == 1 / 8
    assert got["completions/eos_ratio"] == 7 / 8
    assert (got["rewards/failed"], got["rewards/abstained"]) == (1 / 8, 0)
    assert (got["tokens/sampled"], got["tokens/prompt"]) == (32, 6)


def test_parts_are_averaged_over_those_that_have_a_value() -> None:
    one = group(
        "a",
        [(1.0, 1, "eos"), (3.0, 1, "eos"), (None, 1, "eos")],
        "abstained",
        [{"math": 1.0, "format": None}, {"math": 3.0, "format": 0.5}, {"math": None, "format": None}],
    )
    got = describe_groups([one], [(-1.0, 1.0, None)])
    assert got["rewards/math/mean"] == 2.0
    assert got["rewards/math/std"] == pytest.approx(math.sqrt(2))  # (1 + 1) / (2 − 1)
    assert got["rewards/format/mean"] == 0.5
    assert "rewards/format/std" not in got  # of one value there is none
    assert got["rewards/abstained"] == pytest.approx(1 / 3)


def test_numbers_that_do_not_exist_are_left_out_and_not_0() -> None:
    nothing = describe_groups([group("a", [(None, 0, "failed"), (None, 0, "failed")])], [])
    assert (
        not {"reward", "reward_std", "frac_reward_zero_std", "completions/mean_length", "groups/signal"}
        & nothing.keys()
    )
    assert nothing["rewards/failed"] == 1.0
    assert describe_groups([], []) == {"tokens/sampled": 0.0, "tokens/prompt": 0.0}


def test_undrawn_completions_do_not_shorten_the_lengths() -> None:
    got = describe_groups([group("a", [(1.0, 10, "eos"), (None, 0, "failed")])], [])
    assert got["completions/min_length"] == got["completions/mean_length"] == 10
    assert got["completions/eos_ratio"] == 0.5


def test_groups_of_one_reward_have_no_spread() -> None:
    got = describe_groups(
        [group("a", [(1.0, 1, "eos"), (None, 1, "eos")]), group("b", [(0.0, 1, "eos"), (2.0, 1, "eos")])], []
    )
    assert got["reward_std"] == pytest.approx(math.sqrt(2))  # b alone: (1 + 1) / 1
    assert got["frac_reward_zero_std"] == 0.0


@given(st.floats(-1e6, 1e6), st.integers(2, 9))
def test_equal_rewards_have_a_spread_of_exactly_0(value: float, n: int) -> None:
    got = describe_groups([group("a", [(value, 1, "eos")] * n)], [])
    assert got["reward_std"] == 0.0
    assert got["frac_reward_zero_std"] == 1.0


@pytest.mark.parametrize("advantages", [[(1.0,)], [(1.0, 0.0), (1.0, 0.0)]])
def test_advantages_must_fit(advantages: list[tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match="advantages"):
        describe_groups([group("a", [(1.0, 1, "eos"), (0.0, 1, "eos")])], advantages)


def test_every_name_of_a_step_is_explained() -> None:
    one = group("a", [(1.0, 1, "eos"), (2.0, 1, "eos")], parts=[{"path/to.py:fn": 1.0}, {"path/to.py:fn": 2.0}])
    got = describe_groups([one], [(1.0, -1.0)])
    assert unknown_metrics(["step", "version", *got]) == []
    assert unknown_metrics(["reward", "rewardz", "rewards/x/median"]) == ["rewardz", "rewards/x/median"]
    found = metric("rewards/path/to.py:fn/std")
    assert found is not None
    assert found.name == "rewards/<name>/std"


def test_the_names_of_trl_are_kept() -> None:
    for name in (
        "reward", "reward_std", "frac_reward_zero_std", "completions/mean_length",
        "completions/clipped_ratio", "kl", "entropy",
    ):  # fmt: skip
        assert name in METRICS


def test_the_page_is_what_the_code_says() -> None:
    page = Path(__file__).parents[2] / "docs" / "metrics.md"
    assert page.read_text(encoding="utf-8") == metrics_glossary(), "write metrics_glossary() into docs/metrics.md"


def test_healthy_ranges_are_ranges() -> None:
    for entry in METRICS.values():
        assert entry.healthy is None or entry.healthy[0] <= entry.healthy[1], entry.name
