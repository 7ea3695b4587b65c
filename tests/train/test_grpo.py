"""The trainer with parts that answer from a script: what reaches the learner, what is counted, what stops a step."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
import torch

from charter.errors import DataError, RewardError
from charter.objectives.rows import TokenRows
from charter.recipe import GrpoTable, SamplingTable
from charter.sampler.scripted import ScriptedSampler
from charter.train.batch import Credit, collate
from charter.train.grpo import GrpoObjective, grpo
from charter.train.scoring import score_as_they_finish
from charter.train.sft import imitation_batch
from charter.types import Batch, Example, Group, Prompt, Rollout, Score, Scored

SAMPLING = SamplingTable(group_size=4, max_new_tokens=10)


class Prompts:
    def steps(self, prompts_per_step, *, start=1):
        for step in range(start, start + 100):
            yield step, tuple(self.prompt(f"s{step}p{i}") for i in range(prompts_per_step))

    def refill(self, step, round, count):
        return tuple(self.prompt(f"s{step}r{round}p{i}") for i in range(count))

    @staticmethod
    def prompt(name):
        return Prompt(id=name, messages=({"role": "text", "content": name},))


class Chars:
    """A reward of the text's length; late answers come back in reverse order."""

    name = "chars"

    def __init__(self, value=lambda group, rollout: float(len(rollout.text))):
        self.value = value

    async def score(self, group):
        await asyncio.sleep(0.002 * (5 - int(group.prompt.id[-1])))
        return [self.value_as_score(group, r) for r in group.rollouts]

    def value_as_score(self, group, rollout):
        value = self.value(group, rollout)
        return value if isinstance(value, Score) else Score(value=value, parts={"chars": value})

    async def close(self):
        pass


class Recorder:
    """A learner that keeps what it is given."""

    def __init__(self):
        self.batches: list[Batch] = []
        self.version = 0

    def step(self, batch, objective):
        self.batches.append(batch)
        self.version += 1
        return {"loss": 0.0, "tokens/forwarded": 1.0}

    def reference_logprobs(self, trees, temperature):
        return [[[-1.0] * len(b.tokens) for b in t.branches] for t in trees]

    def weights(self):
        return self


def run(script, reward, steps=1, sampling=SAMPLING, **config):
    async def go():
        learner, updates = Recorder(), []
        table = GrpoTable(**({"prompts_per_step": 2} | config))
        stream = grpo(Prompts(), ScriptedSampler(script), reward, learner, table, sampling, part_weights={"chars": 1.0})
        async for update in stream:
            updates.append(update)
            if len(updates) == steps:
                await stream.aclose()
                break
        return learner, updates

    return asyncio.run(go())


def test_advantages_are_reward_minus_group_mean_in_prompt_order_however_late_the_scores():
    learner, (update,) = run(["a", "bb", "ccc", "dddd"], Chars(), prompts_per_step=3)
    assert [s.group.prompt.id for s in update.scored] == ["s1p0", "s1p1", "s1p2"]
    assert update.advantages == ((-1.5, -0.5, 0.5, 1.5),) * 3
    (batch,) = learner.batches
    assert [b.advantage for b in batch.trees[0].branches] == [-1.5, -0.5, 0.5, 1.5]
    assert update.metrics["reward"] == 2.5
    assert update.step == update.version == 1


def test_groups_without_signal_are_not_in_the_batch_and_are_in_the_totals():
    def value(group, rollout):
        return 1.0 if group.prompt.id == "s1p0" else float(rollout.index)

    learner, (update,) = run(["ab"] * 4, Chars(value))
    (batch,) = learner.batches
    assert len(batch.trees) == 1
    # two characters and the end token, eight completions in two groups
    assert (batch.totals.tokens, batch.totals.sequences, batch.totals.completions, batch.totals.prompts) == (
        24,
        8,
        8,
        2,
    )
    assert update.metrics["groups/signal"] == 0.5


def test_a_completion_at_the_mean_is_not_forwarded():
    learner, _ = run(
        ["ab"] * 3, Chars(lambda g, r: float(r.index)), sampling=SamplingTable(group_size=3, max_new_tokens=9)
    )
    assert [len(tree.branches) for tree in learner.batches[0].trees] == [2, 2]


def test_abstained_and_failed_completions_take_no_part_and_are_no_zeros():
    def value(group, rollout):
        if rollout.index == 0:
            return Score(value=None, status="abstained", parts={"chars": None})
        if rollout.index == 1:
            return Score(value=None, status="failed", note="broke", parts={"chars": None})
        return float(rollout.index)

    learner, (update,) = run(["ab"] * 4, Chars(value), max_error_rate=0.5)
    assert update.advantages == ((None, None, -0.5, 0.5),) * 2
    assert learner.batches[0].totals.completions == 4
    assert update.metrics["reward"] == 2.5
    assert update.metrics["rewards/failed"] == 0.25


def test_too_many_failures_stop_the_run_with_three_examples():
    def value(group, rollout):
        return Score(value=None, status="failed", note=f"division by zero in {rollout.index}")

    with pytest.raises(RewardError) as caught:
        run(["ab"] * 4, Chars(value))
    text = str(caught.value)
    assert "8 of 8 completions" in text
    assert text.count("division by zero") == 3
    assert "never counted as 0" in text


def test_dynamic_sampling_refills_until_enough_groups_have_signal():
    def value(group, rollout):
        return float(rollout.index) if "r2" in group.prompt.id or group.prompt.id == "s1p0" else 1.0

    learner, (update,) = run(["ab"] * 4, Chars(value), prompts_per_step=3, dynamic_sampling=True, max_refill=3)
    ids = [s.group.prompt.id for s in update.scored]
    assert ids == ["s1p0", "s1p1", "s1p2", "s1r1p0", "s1r1p1", "s1r2p0", "s1r2p1"]
    (batch,) = learner.batches
    assert len(batch.trees) == 3
    assert batch.totals.prompts == 3  # with dynamic sampling the step is its groups with signal
    assert update.metrics["groups/refilled"] == 4


def test_refilling_is_bounded():
    _, (update,) = run(["ab"] * 4, Chars(lambda g, r: 1.0), dynamic_sampling=True, max_refill=2)
    assert len(update.scored) == 2 + 2 * 2


def test_truncated_completions_are_kept_masked_or_penalised():
    script = ["a", "b" * 40, "cc", "d"]  # the second hits the limit of 10
    kept, _ = run(script, Chars())
    assert sum(len(t.branches) for t in kept.batches[0].trees) == 8
    masked, _ = run(script, Chars(), truncated="mask")
    assert masked.batches[0].totals.sequences == 6
    assert masked.batches[0].totals.completions == 8
    assert all(len(b.tokens) < 10 for t in masked.batches[0].trees for b in t.branches)
    # rewards are equal; only the penalty of −1 at the limit tells them apart: (0, −1, 0, 0) less its mean of −0.25
    _, (update,) = run(script, Chars(lambda g, r: 1.0), truncated="penalize", soft_window=4)
    assert update.advantages[0] == pytest.approx((0.25, -0.75, 0.25, 0.25))
    assert update.metrics["reward"] == 1.0


def test_the_kl_in_the_reward_is_subtracted_before_the_baseline():
    """The script's log-probabilities are 0 and the reference's −1, so k1 = 1 per token: kl_coef · tokens."""
    _, (update,) = run(["a", "aaa"] * 2, Chars(lambda g, r: 1.0), kl_coef=0.1, kl_in="reward")
    # 2 and 4 tokens with their ends: penalties 0.2 and 0.4, mean 0.3
    assert update.advantages[0] == pytest.approx((0.1, -0.1, 0.1, -0.1))


def test_with_a_kl_in_the_loss_every_rewarded_completion_is_forwarded():
    learner, _ = run(["ab"] * 4, Chars(lambda g, r: 1.0), kl_coef=0.1)
    assert [len(t.branches) for t in learner.batches[0].trees] == [4, 4]


def scored(*parts: dict[str, float | None]) -> Scored:
    rollouts = tuple(
        Rollout(prompt_id="p", index=i, tokens=(1,), logprobs=(0.0,), text="", stop="eos", version=0)
        for i in range(len(parts))
    )
    scores = tuple(Score(value=sum(v for v in p.values() if v is not None), parts=p) for p in parts)
    return Scored(group=Group(prompt=Prompt(id="p", messages=()), rollouts=rollouts, prompt_tokens=(1,)), scores=scores)


def test_per_reward_combination_lets_no_reward_drown_another():
    """Standardised in the group, (100, 0, 0) and (0, 0, 1) weigh the same: completions 0 and 2 end up level."""
    item = scored({"big": 100.0, "small": 0.0}, {"big": 0.0, "small": 0.0}, {"big": 0.0, "small": 1.0})
    weights = {"big": 1.0, "small": 1.0}
    credit = Credit(config=GrpoTable(combine="per_reward"), max_new_tokens=4, part_weights=weights)
    (row,) = credit.advantages([item])
    assert row[0] == pytest.approx(row[2], rel=1e-3)
    # their sum is (1, −2, 1)/√3 in the group, and its standard deviation over the step is 1
    assert row == pytest.approx((0.577, -1.155, 0.577), abs=1e-2)
    summed = Credit(config=GrpoTable(), max_new_tokens=4, part_weights=weights)
    # 100, 0 and 1 less their mean of 101/3
    assert summed.advantages([item])[0] == pytest.approx((199 / 3, -101 / 3, -98 / 3))


def test_collating_keeps_the_samplers_logprobs_and_the_prompt():
    item = scored({"a": 1.0}, {"a": 0.0})
    batch = collate([item], ((0.5, -0.5),), GrpoTable())
    assert batch.trees[0].prefix == (1,)
    assert batch.trees[0].branches[0].sampler_logprobs == (0.0,)


def rows(**changed: Any) -> TokenRows:
    base: dict[str, Any] = {
        "logprobs": torch.tensor([[-1.0, -2.0]], requires_grad=True),
        "entropy": torch.zeros(1, 2),
        "old_logprobs": torch.tensor([[-1.0, -2.0]]),
        "sampler_logprobs": None,
        "reference_logprobs": None,
        "mask": torch.tensor([[True, True]]),
        "advantages": torch.tensor([1.0]),
        "groups": torch.tensor([0]),
        "group_tokens": torch.tensor([2.0]),
        "normalizers": {"token": 2, "sequence": 1, "constant": 1, "prompt": 1},
    }
    return TokenRows(**(base | changed))


def test_the_objective_adds_the_kl_and_weighs_the_mismatch_by_hand():
    objective = GrpoObjective(
        config=GrpoTable(kl_coef=0.5, kl_estimator="k3", mismatch="truncate", mismatch_cap=2.0),
        max_new_tokens=2,
        temperature=1.0,
    )
    loss = objective(
        rows(
            sampler_logprobs=torch.tensor([[-1.0, -2.0 - math.log(4)]]),  # w = 1 and 4, cut at 2
            reference_logprobs=torch.tensor([[-1.0, -2.0 - math.log(2)]]),  # d = 0 and log 2: k3 = 1/2 + log 2 − 1
        )
    )
    # policy term −1·1 and −1·2; KL 0.5 · (0, 0.1931)
    assert loss.value.item() == pytest.approx((-1 - 2 + 0.5 * (math.log(2) - 0.5)) / 2)
    assert {name: (total / count).item() for name, (total, count) in loss.means.items()}["kl"] == pytest.approx(
        (math.log(2) - 0.5) / 2
    )


def test_scores_arrive_while_later_groups_are_still_being_sampled():
    events: list[str] = []

    async def groups():
        for i in range(3):
            events.append(f"sampled {i}")
            yield Group(prompt=Prompts.prompt(f"p{i}"), rollouts=())
            await asyncio.sleep(0.05)

    class Quick:
        name = "quick"

        async def score(self, group):
            events.append(f"scored {group.prompt.id[-1]}")
            return []

        async def close(self):
            pass

    async def go():
        return [s async for s in score_as_they_finish(groups(), Quick())]

    assert len(asyncio.run(go())) == 3
    assert events.index("scored 0") < events.index("sampled 1")
    assert events.index("scored 1") < events.index("sampled 2")


def test_an_imitation_batch_counts_what_the_assistant_wrote():
    def encode(messages):
        n = len(messages[0]["content"])
        return tuple(range(5, 5 + n)), (False, False) + (True,) * (n - 2)

    examples = [Example(id=str(n), messages=({"role": "user", "content": "x" * n},)) for n in (4, 7)]
    batch = imitation_batch(examples, encode, 10)
    assert [t.prefix for t in batch.trees] == [(5, 6), (5, 6)]
    assert batch.totals.tokens == 2 + 5
    with pytest.raises(DataError, match=r"example 7 has 7 tokens, more than sft\.max_tokens = 6"):
        imitation_batch(examples, encode, 6)
    with pytest.raises(DataError, match="example 4 has no assistant turn"):
        imitation_batch(examples, lambda m: ((1, 2), (False, False)), 10)
