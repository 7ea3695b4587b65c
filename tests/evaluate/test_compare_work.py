"""What each method passes over and what it cannot use, on a step worked out by hand."""

from __future__ import annotations

import pytest

from charter.evaluate.compare_accounting import Architecture, Work
from charter.evaluate.compare_work import Usage, merged, pass_flops, step_work
from charter.recipe import Recipe
from charter.types import Group, Message, Prompt, Rollout, Score, Scored

LENGTHS = (3, 2, 4)


def group(name: str, rewards: tuple[float | None, ...], prompt: int = 5) -> Scored:
    rollouts = tuple(
        Rollout(
            prompt_id=name, index=i, tokens=tuple(range(10 * i, 10 * i + n)), logprobs=(0.0,) * n, text="t",
            stop="eos", version=0,
        )
        for i, n in enumerate(LENGTHS)
    )  # fmt: skip
    scores = tuple(
        Score(value=reward, status="scored") if reward is not None else Score(value=None, status="failed", note="x")
        for reward in rewards
    )
    question = Prompt(id=name, messages=(Message(role="user", content="?"),))
    return Scored(group=Group(prompt=question, rollouts=rollouts, prompt_tokens=tuple(range(prompt))), scores=scores)


SCORED = (group("a", (1.0, 0.0, 0.0)), group("b", (1.0, 1.0, 1.0)), group("c", (0.5, None, 1.0)))
CENTERED = ((2 / 3, -1 / 3, -1 / 3), (0.0, 0.0, 0.0), (-0.25, None, 0.25))
# every group of 3, 2 and 4 tokens behind a prompt of 5: forwarded 5 + 2 + 1 + 3 = 11,
# attended 15 + (6 + 7) + 6 + (6 + 7 + 8) = 55, predicted 9
ONE = Work(tokens=11, attended=55, predicted=9, rows=3)


def recipe(method: str, **tables: object) -> Recipe:
    return Recipe.model_validate({"method": method, "model": "m", **tables})


def test_grpo_learns_from_groups_with_signal():
    found = step_work(recipe("grpo", grpo={"updates_per_step": 2}), SCORED, CENTERED, 1)
    assert found.passes["sampling"] == ONE.times(3)
    # group c without its second completion: 5 + 2 + 3 = 10 tokens, 15 + 13 + 21 = 49 keys, 7 predicted
    without = Work(tokens=10, attended=49, predicted=7, rows=2)
    assert found.passes["policy_learning"] == (ONE + without).times(2)
    assert "reference_forward" not in found.passes
    assert found.largest_update == 21
    assert found.usage == Usage(
        groups=3, groups_unused=1, completions=9, completions_unused=4, tokens=27, tokens_unused=9 + 2
    )


@pytest.mark.parametrize(("place", "tokens"), [("loss", 32), ("reward", 33)])
def test_grpos_reference_looks_at_what_its_kl_needs(place, tokens):
    """In the loss: every completion with a reward (11 + 11 + 10 tokens). In the reward: all of them."""
    found = step_work(recipe("grpo", grpo={"kl_coef": 0.1, "kl_in": place}), SCORED, CENTERED, 1)
    assert found.passes["reference_forward"].tokens == tokens


def test_ppo_uses_every_completion_with_a_reward_in_every_epoch():
    settings = {"epochs": 3, "minibatches": 1}
    found = step_work(recipe("ppo", ppo=settings), SCORED, ((0.0,) * 3,) * 3, 1)
    looked = ONE.times(2) + Work(tokens=10, attended=49, predicted=7, rows=2)
    for name in ("policy_forward", "critic_forward", "reference_forward"):
        assert found.passes[name] == looked
    for name in ("policy_learning", "critic_learning"):
        assert found.passes[name] == looked.times(3)
    assert found.usage == Usage(groups=3, completions=9, completions_unused=1, tokens=27, tokens_unused=2)


def test_a_head_on_the_policy_makes_no_pass_of_its_own():
    found = step_work(recipe("ppo", ppo={"critic": "head", "kl_coef": 0.0}), SCORED, ((0.0,) * 3,) * 3, 1)
    assert set(found.passes) == {"sampling", "policy_forward", "policy_learning"}


def test_dpo_takes_the_best_and_the_worst():
    found = step_work(recipe("dpo", dpo={"online": True}), SCORED, ((None,) * 3,) * 3, 1)
    # a: completions 0 and 1 (3 and 2 tokens): 5 + 2 + 1 tokens, 15 + 13 + 6 keys; c: 2 and 0 (4 and 3): 5 + 3 + 2
    learnt = Work(tokens=8 + 10, attended=34 + 49, predicted=5 + 7, rows=4)
    assert found.passes["policy_learning"] == learnt
    assert found.passes["reference_forward"] == learnt
    assert found.usage == Usage(
        groups=3, groups_unused=1, completions=9, completions_unused=5, tokens=27, tokens_unused=27 - 12
    )


def test_rejection_sampling_learns_from_what_it_kept():
    kept = ((1.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, None, 1.0))
    found = step_work(recipe("rejection_sft", rejection_sft={"updates_per_step": 2}), SCORED, kept, 1)
    # a keeps 3 tokens: 5 + 2, 15 + 13; c keeps 4: 5 + 3, 15 + 21
    assert found.passes["policy_learning"] == Work(tokens=15, attended=64, predicted=7, rows=2).times(2)
    assert found.usage.completions_unused == 7
    assert found.usage.groups_unused == 1


def test_a_reward_model_passes_over_everything_that_was_sampled():
    found = step_work(recipe("grpo"), SCORED, CENTERED, 1, reward_model=True)
    assert found.passes["reward_forward"] == found.passes["sampling"]


def test_operations_of_passes_by_hand():
    policy = Architecture(parameters=10, head=7, layers=1, attention_width=1)
    scorer = Architecture(parameters=100, head=70, layers=1, attention_width=1)
    work = Work(tokens=2, attended=3, predicted=1, rows=1)
    passes = {"sampling": work, "policy_learning": work, "critic_learning": work, "reward_forward": work}
    # forward 40 + 12 (+ 14 for the head); the reward model 400 + 12
    assert pass_flops(passes, policy, scorer) == {
        "sampling": 66, "policy_learning": 198, "critic_learning": 156, "reward_forward": 412,
    }  # fmt: skip


def test_steps_add_up():
    one = step_work(recipe("grpo"), SCORED, CENTERED, 1)
    both = merged([one, one])
    assert both.passes["sampling"] == ONE.times(6)
    assert both.usage == one.usage + one.usage
    assert both.largest_update == one.largest_update


def test_a_method_that_samples_nothing_is_refused():
    with pytest.raises(ValueError, match="sample nothing"):
        step_work(recipe("sft"), SCORED, CENTERED, 1)
