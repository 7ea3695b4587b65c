"""The mathematics without the rest: GRPO on a slot machine with five arms, whose third arm pays most often.

    python examples/objectives_alone.py

The policy is one row of five logits; a completion is one token, the arm that is pulled.
"""

from __future__ import annotations

import torch

from charter.objectives.advantages import group_advantages
from charter.objectives.aggregation import aggregate
from charter.objectives.policy import policy_loss

PAYS = torch.tensor([0.1, 0.2, 0.9, 0.3, 0.1])  # chance of a reward of 1
GROUPS, SIZE, STEPS = 16, 8, 60


def main() -> torch.Tensor:
    """Learn, and return the final probabilities of the arms."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.zeros(5, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for step in range(1, STEPS + 1):
        policy = torch.log_softmax(logits, -1)
        arms = torch.multinomial(policy.detach().exp(), GROUPS * SIZE, replacement=True, generator=draw)
        rewards = (torch.rand(GROUPS * SIZE, generator=draw) < PAYS[arms]).float()
        advantages = group_advantages(rewards.view(GROUPS, SIZE), "center").flatten()
        logprobs = policy[arms][:, None]  # [B, T] with one token each
        mask = torch.ones_like(logprobs)
        loss = aggregate(policy_loss(logprobs, logprobs.detach(), advantages, mask, kind="clip"), mask, how="token")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            print(f"step {step:2}  mean reward {rewards.mean():.2f}  arms {[f'{p:.2f}' for p in logits.softmax(-1)]}")
    return logits.detach().softmax(-1)


if __name__ == "__main__":
    main()
