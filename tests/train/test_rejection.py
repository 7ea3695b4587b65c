"""What rejection-sampling SFT keeps and imitates."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from charter.recipe import RejectionTable
from charter.train.rejection import ImitationOfSamples, imitation_of, kept_completions
from charter.types import Group, Prompt, Rollout, Score, Scored


def group(*completions: tuple[float | None, tuple[int, ...]]) -> Scored:
    rollouts = tuple(
        Rollout(prompt_id="p", index=i, tokens=tokens, logprobs=(-1.0,) * len(tokens), text="", stop="eos", version=0)
        for i, (_, tokens) in enumerate(completions)
    )
    scores = tuple(Score(value=r, status="scored" if r is not None else "abstained") for r, _ in completions)
    prompt = Prompt(id="p", messages=())
    return Scored(group=Group(prompt=prompt, rollouts=rollouts, prompt_tokens=(1, 2)), scores=scores)


def kept(item: Scored, **table: Any) -> tuple[float | None, ...]:
    return kept_completions([item], RejectionTable(**table))[0]


def test_the_best_of_a_group_above_its_mean():
    item = group((0.0, (5,)), (1.0, (6,)), (None, (7,)), (0.9, (8,)), (1.0, (9,)))
    # mean of 0, 1, 0.9 and 1 is 0.725
    assert kept(item) == (0.0, 1.0, None, 0.0, 0.0)  # of equal ones the first drawn
    assert kept(item, per_prompt=2) == (0.0, 1.0, None, 0.0, 1.0)
    assert kept(item, per_prompt=9) == (0.0, 1.0, None, 1.0, 1.0)


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_a_group_of_one_reward_has_no_best(value):
    item = group(*((value, (i,)) for i in range(3)))
    assert kept(item, per_prompt=3) == (0.0, 0.0, 0.0)


def test_a_threshold_keeps_what_is_right_even_where_all_are():
    item = group((1.0, (5,)), (1.0, (6,)), (0.99, (7,)))
    assert kept(item, keep="threshold", per_prompt=3) == (1.0, 1.0, 0.0)
    assert kept(item, keep="threshold", threshold=2.0) == (0.0, 0.0, 0.0)


def test_equal_texts_count_once():
    item = group((1.0, (5, 6)), (1.0, (5, 6)), (0.0, (7,)))
    assert kept(item, per_prompt=3) == (1.0, 0.0, 0.0)


def test_a_completion_without_tokens_is_not_imitated():
    assert kept(group((1.0, ()), (0.5, (3,)), (0.0, (4,))), keep="threshold", per_prompt=3) == (None, 0.0, 0.0)


def test_the_batch_holds_what_was_kept_and_nothing_else():
    one, none = group((1.0, (5, 6)), (0.0, (7,))), group((0.0, (5,)), (0.0, (6,)))
    batch = imitation_of([one, none], kept_completions([one, none], RejectionTable()))
    assert [[b.tokens for b in tree.branches] for tree in batch.trees] == [[(5, 6)]]
    assert batch.trees[0].prefix == (1, 2)
    assert (batch.totals.tokens, batch.totals.sequences, batch.totals.prompts) == (2, 1, 1)


@pytest.mark.parametrize(("how", "expected"), [("token", (0.5 + 1.0 + 2.0) / 3), ("sequence", (0.75 + 2.0) / 2)])
def test_the_loss_by_hand(tiny_policy, how, expected):
    """Rows of lp −0.5, −1 and −2: the token mean is 3.5 / 3, the mean of the means (0.75 + 2) / 2."""
    from charter.objectives.rows import TokenRows

    logprobs = torch.tensor([[-0.5, -1.0], [-2.0, -9.0]], requires_grad=True)
    mask = torch.tensor([[True, True], [True, False]])
    blank = torch.zeros(2, 2)
    rows = TokenRows(
        logprobs=logprobs, entropy=blank, old_logprobs=blank, sampler_logprobs=None, reference_logprobs=None,
        mask=mask, advantages=torch.zeros(2), groups=torch.tensor([0, 1]), group_tokens=torch.tensor([2.0, 1.0]),
        normalizers={"token": 3, "sequence": 2, "constant": 2, "prompt": 2}, preferred=torch.zeros(2),
        values=None, old_values=None, returns=None,
    )  # fmt: skip
    objective = ImitationOfSamples(config=RejectionTable(aggregation=how), temperature=1.0)
    loss = objective(rows).value
    assert loss.item() == pytest.approx(expected)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    assert gradient[1, 1] == 0
    assert gradient[1, 0].item() == pytest.approx(-1 / 3 if how == "token" else -1 / 2)
