"""What goes wrong is said in a sentence, once, and nothing is said of an ordinary run."""

from __future__ import annotations

import math
import random

import pytest

from charter.run.diagnose import CHECKS, Settings, Watch, diagnose
from charter.run.endings import undeclared_ending
from charter.types import Group, Prompt, Rollout, Score, Scored, StopReason, Update


def update(step: int, scored: tuple[Scored, ...] = (), **metrics: float) -> Update:
    return Update(step=step, version=step, metrics=metrics, scored=scored)


def said(findings: object) -> list[str]:
    assert isinstance(findings, list)
    return [finding.name for finding in findings]


def completions(*rows: tuple[tuple[int, ...], StopReason]) -> tuple[Scored, ...]:
    rollouts = tuple(
        Rollout(prompt_id="p", index=i, tokens=tokens, logprobs=(-1.0,) * len(tokens), text="", stop=stop, version=0)
        for i, (tokens, stop) in enumerate(rows)
    )
    group = Group(prompt=Prompt(id="p", messages=()), rollouts=rollouts)
    return (Scored(group=group, scores=(Score(value=0.0),) * len(rollouts)),)


def cut(*tokens: tuple[int, ...]) -> tuple[Scored, ...]:
    rows: list[tuple[tuple[int, ...], StopReason]] = [(each, "length") for each in tokens]
    return completions(*rows)


def ordinary(step: int, chance: random.Random) -> dict[str, float]:
    return {
        "step": step, "reward": 0.3 + 0.005 * step + chance.gauss(0, 0.02), "reward_std": 0.4,
        "frac_reward_zero_std": 0.3,
        "rewards/math/mean": 0.3 + 0.005 * step + chance.gauss(0, 0.02), "rewards/failed": 0.0, "groups/signal": 0.7,
        "completions/mean_length": 40 + chance.gauss(0, 3), "completions/clipped_ratio": 0.1,
        "entropy": 0.9 - 0.003 * step, "grad_norm": 0.5, "skipped": 0.0, "sampling/logprob_diff_mean": 1e-6,
    }  # fmt: skip


def test_nothing_is_said_of_an_ordinary_run() -> None:
    chance = random.Random(1)
    assert diagnose([ordinary(step, chance) for step in range(1, 101)]) == []


@pytest.mark.parametrize(
    ("reward", "says", "advice"),
    [
        (1.0, "all of them are right", "harder"),
        (0.0, "all of them are wrong", "easier"),
        (0.5, "mean reward is 0.5", ""),
    ],
)
def test_equal_groups_three_steps_running(reward: float, says: str, advice: str) -> None:
    watch = Watch()
    equal = {"frac_reward_zero_std": 1.0, "reward": reward}
    assert watch.observe(Update(step=1, version=1, metrics=equal)) == []
    assert watch.observe(Update(step=2, version=2, metrics=equal)) == []
    (finding,) = watch.observe(Update(step=3, version=3, metrics=equal))
    assert (finding.step, finding.name) == (3, "groups_equal")
    assert says in finding.sentence
    assert advice in finding.advice.lower()


def test_two_equal_steps_are_no_news() -> None:
    shares = [1.0, 1.0, 0.9, 1.0, 1.0]
    assert diagnose([{"step": i, "frac_reward_zero_std": s, "reward": 0.0} for i, s in enumerate(shares)]) == []


def test_groups_all_right_beside_groups_all_wrong() -> None:
    def group(name: str, value: float) -> Scored:
        (one,) = completions(((1,), "eos"), ((2,), "eos"))
        return Scored(group=one.group, scores=(Score(value=value),) * 2)

    watch = Watch()
    for step in (1, 2, 3):
        found = watch.observe(update(step, (group("a", 1.0), group("b", 0.0)), frac_reward_zero_std=1.0, reward=0.5))
    assert "some groups are all right and the others all wrong" in found[0].sentence


@pytest.mark.parametrize(("share", "speaks"), [(0.96, False), (0.97, True), (1.0, True)])
def test_completions_that_end_at_the_limit(share: float, speaks: bool) -> None:
    found = diagnose([{"step": 1, "completions/clipped_ratio": share, "completions/max_length": 64}])
    assert said(found) == (["truncated"] if speaks else [])
    if speaks:
        assert "at the limit of 64 tokens" in found[0].sentence


def test_reward_errors_name_the_most_frequent_cause() -> None:
    (one,) = completions(((1,), "eos"), ((2,), "eos"), ((3,), "eos"), ((4,), "eos"))
    notes = ("KeyError: 'answer'", "hit 10 s", "KeyError: 'answer'")
    scores = (Score(value=1.0), *(Score(value=None, note=note, status="failed") for note in notes))
    (finding,) = Watch().observe(update(1, (Scored(group=one.group, scores=scores),)))
    assert finding.sentence == "3 of 4 rewards failed, most often: KeyError: 'answer'."
    (finding,) = diagnose([{"step": 1, "rewards/failed": 0.25}])
    assert finding.sentence == "25 % of the rewards failed."


@pytest.mark.parametrize("norm", [math.nan, math.inf, None])
def test_a_gradient_that_is_not_finite(norm: float | None) -> None:
    assert said(diagnose([{"step": 1, "grad_norm": norm}])) == ["gradient"]


def test_a_skipped_step() -> None:
    assert said(diagnose([{"step": 1, "grad_norm": 2.0, "skipped": 1.0}])) == ["gradient"]
    assert diagnose([{"step": 1, "grad_norm": 2.0, "skipped": 0.0}, {"step": 2}]) == []


def test_a_part_that_falls_while_the_reward_rises() -> None:
    chance = random.Random(2)
    rows = [
        {
            "step": step, "reward": 0.02 * step + chance.gauss(0, 0.02),
            "rewards/length/mean": 0.03 * step, "rewards/math/mean": 0.9 - 0.01 * step + chance.gauss(0, 0.01),
        }
        for step in range(1, 31)
    ]  # fmt: skip
    found = diagnose(rows)
    assert said(found) == ["part_falls"]
    assert "its part 'math' falls" in found[0].sentence
    assert found[0].step == 20  # the first step with two whole windows of ten


def test_noise_is_no_trend() -> None:
    chance = random.Random(3)
    names = ("reward", "rewards/a/mean", "rewards/b/mean")
    rows = [{"step": step, **{name: chance.gauss(0.5, 0.2) for name in names}} for step in range(200)]
    assert diagnose(rows) == []


@pytest.mark.parametrize(
    ("factor", "reward", "speaks"),
    [(0.2, 0.0, True), (4.0, 0.0, True), (0.2, 0.1, False), (4.0, 0.1, False), (0.5, 0.0, False)],
)
def test_lengths_that_collapse_or_explode_without_gain(factor: float, reward: float, speaks: bool) -> None:
    rows = [{"step": step, "completions/mean_length": 40.0, "reward": 0.5} for step in range(10)]
    rows += [{"step": s, "completions/mean_length": 40.0 * factor, "reward": 0.5 + reward} for s in range(10, 20)]
    found = diagnose(rows)
    assert said(found) == (["length"] if speaks else [])
    if speaks:
        assert ("shrunk" if factor < 1 else "grown") in found[0].sentence


@pytest.mark.parametrize(("was", "now", "speaks"), [(1.0, 0.04, True), (1.0, 0.06, False), (0.06, 0.04, False)])
def test_entropy_that_collapses(was: float, now: float, speaks: bool) -> None:
    rows = [{"step": step, "entropy": was if step < 10 else now} for step in range(20)]
    assert said(diagnose(rows)) == (["entropy"] if speaks else [])


@pytest.mark.parametrize(("difference", "speaks"), [(0.05, False), (0.051, True)])
def test_sampler_and_learner_that_disagree(difference: float, speaks: bool) -> None:
    assert said(diagnose([{"step": 1, "sampling/logprob_diff_mean": difference}])) == (["mismatch"] if speaks else [])


def test_each_is_said_at_most_once_in_n_steps() -> None:
    rows = [{"step": step, "completions/clipped_ratio": 1.0} for step in range(1, 25)]
    assert [finding.step for finding in diagnose(rows, settings=Settings(repeat_after=10))] == [1, 11, 21]


def test_every_finding_says_what_to_do() -> None:
    row = {"completions/clipped_ratio": 1.0, "grad_norm": None, "rewards/failed": 0.5, "sampling/logprob_diff_mean": 1}
    found = diagnose([{"step": 1, **row}])
    assert {finding.name for finding in found} == {"truncated", "gradient", "reward_errors", "mismatch"}
    assert {finding.name for finding in found} <= CHECKS.keys()
    for finding in found:
        assert finding.sentence.endswith(".")
        assert finding.advice.endswith(".")


def test_updates_and_rows_of_a_step_are_read_together() -> None:
    scored = cut(*((9, 1, 7, 7, 7, 7),) * 4)
    assert said(diagnose([{"step": 1, "completions/clipped_ratio": 1.0}], [update(1, scored)])) == [
        "truncated",
        "undeclared_end",
    ]
    assert said(diagnose([], [update(4, scored)])) == ["undeclared_end"]


class TestUndeclaredEnding:
    def test_repeated_padding(self) -> None:
        found = undeclared_ending(cut((9, 1, 7, 7, 7, 7), (8, 7, 7, 7, 7, 7), (4, 7, 7, 7, 7), (1, 2, 3)))
        assert found is not None
        assert (found.token, found.how, found.completions, found.truncated) == (7, "repeated", 3, 4)

    def test_half_is_not_most(self) -> None:
        assert undeclared_ending(cut(*((9, 7, 7, 7, 7),) * 2, *((1, 2, 3, 4, 5),) * 2)) is None

    def test_fewer_than_four_are_no_pattern(self) -> None:
        assert undeclared_ending(cut(*((9, 7, 7, 7, 7),) * 3)) is None

    def test_a_declared_end_is_not_undeclared(self) -> None:
        truncated: tuple[tuple[int, ...], StopReason] = ((9, 7, 7, 7, 7), "length")
        assert undeclared_ending(completions(*(truncated,) * 4, ((1, 7), "eos"))) is None
        found = undeclared_ending(completions(*(truncated,) * 4, ((1, 6), "eos")))
        assert found is not None

    def test_a_new_turn_after_it(self) -> None:
        # 2 = <|im_end|>, then "\n" 10, <|im_start|> 1, "user" 20: the same header each time, other words before it
        def runaway(a: int, b: int) -> tuple[int, ...]:
            return a, a + 1, 2, 10, 1, 20, b, b + 3, 2, 10, 1, 20, a

        found = undeclared_ending(cut(*(runaway(50 + 7 * i, 90 + 11 * i) for i in range(5))))
        assert found is not None
        assert (found.token, found.how, found.completions) == (2, "new turn", 5)

    def test_words_are_not_ends(self) -> None:
        chance = random.Random(4)
        rows = [tuple(chance.randrange(30) for _ in range(60)) for _ in range(8)]
        assert undeclared_ending(cut(*rows)) is None

    def test_known_special_tokens_need_to_occur_once(self) -> None:
        rows = [(50 + i, 2, 60 + i, 1, 70 + i) for i in range(4)]
        assert undeclared_ending(cut(*rows)) is None
        found = undeclared_ending(cut(*rows), {1: "<|im_start|>", 2: "<|im_end|>"})
        assert found is not None
        assert (found.token, found.completions) == (2, 4)

    def test_its_name_is_said_where_known(self) -> None:
        rows = [(50 + i, 2, 2, 2, 2) for i in range(4)]
        watch = Watch(Settings(special_tokens={2: "<|im_end|>"}))
        (finding,) = watch.observe(update(1, cut(*rows)))
        assert finding.sentence.startswith("Token 2 (<|im_end|>) fills the rest of 4 of the 4 completions")
        assert "eos_token_id" in finding.advice


def equal_groups(values: tuple[float, ...], **metrics: float) -> list[str]:
    """Sentences about three steps of groups that each earned one reward. values: the mean reward of each step."""
    rows = [
        {"step": i, "frac_reward_zero_std": 1.0, "reward": value, **metrics} for i, value in enumerate(values, start=1)
    ]
    return [finding.sentence for finding in diagnose(rows) if finding.name == "groups_equal"]


def test_equal_groups_are_said_in_the_terms_of_the_method() -> None:
    wrong = (0.0, 0.0, 0.0)
    assert "so nothing was learnt" in equal_groups(wrong)[0]
    assert "so no pair could be made" in equal_groups(wrong, pairs=0.0)[0]
    assert "so nothing was learnt" in equal_groups(wrong, kept=0.0)[0]
    assert "the critic has nothing to tell apart" in equal_groups(wrong, **{"value/loss": 0.1})[0]


def test_a_critic_learns_from_groups_that_are_equal_inside() -> None:
    """PPO compares with what its critic expected: groups that differ from each other teach it."""
    assert equal_groups((0.2, 0.4, 0.3), **{"value/loss": 0.1}) == []


def test_a_threshold_keeps_completions_of_equal_groups() -> None:
    assert equal_groups((1.0, 1.0, 1.0), kept=4.0) == []
