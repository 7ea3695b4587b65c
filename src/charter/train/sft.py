"""SFT: imitate the assistant's turns.

    loss = Σ −log π(token | context) · m / Σ m        (or the mean of each example's token mean)

with m = 1 on what the assistant wrote, its end-of-turn token included.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from charter.errors import DataError
from charter.objectives.aggregation import aggregate
from charter.objectives.rows import Loss, TokenRows
from charter.protocols import ExampleSource, Learner
from charter.recipe import SftTable
from charter.types import Batch, Branch, Example, Message, Totals, Tree, Update

Encode = Callable[[Sequence[Message]], tuple[tuple[int, ...], tuple[bool, ...]]]
"""Messages → (ids, which of them the assistant wrote)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SftObjective:
    """Token cross-entropy under one normaliser per step."""

    aggregation: str

    @property
    def temperature(self) -> float:
        return 1.0

    @property
    def updates(self) -> int:
        return 1

    @property
    def needs_reference(self) -> bool:
        return False

    @property
    def per_token(self) -> bool:
        return True

    def __call__(self, rows: TokenRows) -> Loss:
        value = aggregate(
            -rows.logprobs,
            rows.mask,
            how=self.aggregation,
            groups=rows.groups,
            normalizer=rows.normalizers[self.aggregation],
            group_tokens=rows.group_tokens,
        )
        return Loss(value=value)


async def sft(
    examples: ExampleSource, encode: Encode, learner: Learner, config: SftTable, *, start: int = 1
) -> AsyncGenerator[Update]:
    """Yield one Update per step, from step `start` on, without end.

    Raises DataError for an example longer than config.max_tokens, or one in which the assistant writes nothing.
    """
    objective = SftObjective(aggregation=config.aggregation)
    for step, chosen in examples.steps(config.examples_per_step, start=start):
        began = time.perf_counter()
        batch = imitation_batch(chosen, encode, config.max_tokens)
        metrics = dict(learner.step(batch, objective))
        seconds = time.perf_counter() - began
        yield Update(
            step=step,
            version=learner.version,
            metrics=metrics
            | {
                "examples": float(len(chosen)),
                "time/learn_s": seconds,
                "time/step_s": seconds,
                "tokens_per_s/learn": metrics["tokens/forwarded"] / max(seconds, 1e-9),
            },
        )


def imitation_batch(examples: Sequence[Example], encode: Encode, max_tokens: int) -> Batch:
    """One tree per example: what comes before the assistant's first token is its prefix."""
    trees: list[Tree] = []
    for example in examples:
        tokens, written = encode(example.messages)
        if len(tokens) > max_tokens:
            raise DataError(
                f"example {example.id} has {len(tokens)} tokens, more than sft.max_tokens = {max_tokens}; "
                "shorten it or raise the limit"
            )
        if not any(written):
            raise DataError(f"example {example.id} has no assistant turn to imitate")
        first = max(written.index(True), 1)
        trees.append(Tree(prefix=tokens[:first], branches=(Branch(tokens=tokens[first:], mask=written[first:]),)))
    counts = [sum(tree.branches[0].mask) for tree in trees]
    return Batch(
        trees=tuple(trees),
        totals=Totals(tokens=sum(counts), sequences=len(counts), completions=len(counts), prompts=len(counts)),
    )
