"""DPO: raise the better of two answers above the worse, against what the starting model thought of them.

    h = Σ_t (lp − lp_ref) of a − Σ_t (lp − lp_ref) of b,      loss = −[p log σ(βh) + (1 − p) log σ(−βh)]

The pairs are given, or (online) the best and the worst of what the policy itself samples. Both answers of a pair share
their prompt in one tree. Source: DPO (arXiv 2305.18290); online: arXiv 2402.04792.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace

import torch

from charter.errors import DataError
from charter.objectives.preference import dpo_loss
from charter.objectives.rows import Loss, TokenRows
from charter.protocols import Learner, PairSource, PromptSource, Reward, Sampler
from charter.recipe import DpoTable, SamplingTable
from charter.run.metrics import describe_groups
from charter.train.rounds import StepClock, sample_and_score
from charter.train.scoring import refuse_failures
from charter.train.sft import Encode
from charter.types import Batch, Branch, Message, Pair, Scored, Totals, Tree, Update

ReferenceLogprobs = Callable[[Sequence[Tree]], Sequence[Sequence[Sequence[float]]]]
"""Trees → log-probabilities of every branch's tokens under the reference, out of a file or a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairObjective:
    """The loss of a step's pairs: the mean over them. Rows come in twos, a pair's side by side."""

    config: DpoTable
    temperature: float = 1.0

    @property
    def updates(self) -> int:
        return 1

    @property
    def needs_reference(self) -> bool:
        return False  # it comes with the branches

    @property
    def per_token(self) -> bool:
        return False  # of sums over completions

    def __call__(self, rows: TokenRows) -> Loss:
        if rows.reference_logprobs is None or rows.preferred is None:
            raise ValueError("pairs need the reference's log-probabilities and a label with every branch")
        if len(rows.groups) % 2 or not torch.equal(rows.groups[0::2], rows.groups[1::2]):
            raise ValueError("a pair was cut: both answers must be in one micro-batch")
        config = self.config
        # sums of hundreds of tokens, whose small differences count: in double precision
        policy, reference = (x.double().sum(-1) for x in (rows.logprobs, rows.reference_logprobs))
        lengths = rows.mask.sum(-1)
        p = rows.preferred[0::2].double()
        losses = dpo_loss(
            policy[0::2], policy[1::2], reference[0::2], reference[1::2], p,
            beta=config.beta, kind=config.kind, label_smoothing=config.label_smoothing,
            length_a=lengths[0::2], length_b=lengths[1::2],
        )  # fmt: skip
        ratio = (policy - reference).detach()
        if config.kind == "length_normalized":
            ratio = ratio / lengths
        rewards = (config.beta * ratio).view(-1, 2)
        better = torch.where(p >= 0.5, 0, 1)[:, None]
        chosen, rejected = rewards.gather(1, better)[:, 0], rewards.gather(1, 1 - better)[:, 0]
        told = policy.detach().view(-1, 2)
        count, decided = torch.tensor(len(p)), p != 0.5
        hits = (1 + torch.sign(chosen - rejected)) / 2
        return Loss(
            value=losses.sum() / rows.normalizers["prompt"],
            means={
                "rewards/chosen": (chosen.sum(), count),
                "rewards/rejected": (rejected.sum(), count),
                "rewards/margins": ((chosen - rejected).sum(), count),
                "rewards/accuracies": (hits[decided].sum(), decided.sum()),
                "logps/chosen": (told.gather(1, better).sum(), count),
                "logps/rejected": (told.gather(1, 1 - better).sum(), count),
            },
        )


async def dpo(
    pairs: PairSource,
    encode: Encode,
    reference: ReferenceLogprobs,
    learner: Learner,
    config: DpoTable,
    *,
    start: int = 1,
) -> AsyncGenerator[Update]:
    """Learn from given pairs; yield one Update per step, from step `start` on, without end.

    Raises DataError for a pair longer than config.max_tokens.
    """
    objective = PairObjective(config=config)
    for step, chosen in pairs.steps(config.pairs_per_step, start=start):
        clock = StepClock()
        trees = [pair_tree(pair, encode, config.max_tokens) for pair in chosen]
        batch = pair_batch(trees, reference(trees))
        learning = time.perf_counter()
        learned = learner.step(batch, objective)
        clock.add("time/learn_s", time.perf_counter() - learning)
        metrics = dict(learned) | {"pairs": float(len(trees))} | clock.metrics((), learned)
        yield Update(step=step, version=learner.version, metrics=metrics)


async def online_dpo(
    prompts: PromptSource,
    sampler: Sampler,
    reward: Reward,
    learner: Learner,
    config: DpoTable,
    sampling: SamplingTable,
    *,
    start: int = 1,
) -> AsyncGenerator[Update]:
    """Learn from pairs that the policy samples; yield one Update per step, from step `start` on, without end.

    Log-probabilities are those of the tempered distribution that was sampled, the reference's too. A prompt whose
    completions all have one reward gives no pair. Raises RewardError as `refuse_failures` does.
    """
    objective = PairObjective(config=config, temperature=sampling.temperature)
    most = config.pairs_per_step * sampling.group_size
    for step, chosen in prompts.steps(config.pairs_per_step, start=start):
        clock = StepClock()
        scored = await sample_and_score(
            chosen, sampler, reward, sampling, step, clock, max_error_rate=config.max_error_rate, most=most
        )
        refuse_failures(scored, config.max_error_rate)
        trees = [tree for item in scored if (tree := best_and_worst(item, config.online_label)) is not None]
        learning = time.perf_counter()
        batch = pair_batch(trees, learner.reference_logprobs(trees, sampling.temperature) if trees else ())
        learned = learner.step(batch, objective)
        clock.add("time/learn_s", time.perf_counter() - learning)
        await sampler.load(learner.weights())
        yield Update(
            step=step,
            version=learner.version,
            metrics=dict(learned)
            | describe_groups(scored, ())
            | {"pairs": float(len(trees))}
            | clock.metrics(scored, learned),
            scored=scored,
        )


def pair_tree(pair: Pair, encode: Encode, max_tokens: int, *, key: str = "dpo.max_tokens") -> Tree:
    """A pair as one tree: the prompt once, then both answers, each with its closing token.

    key: of the recipe, that says max_tokens.
    Raises DataError for a pair that is too long, or answers that do not begin after the same tokens.
    """
    (prefix, a), (other, b) = (_answer_tokens(pair.prompt.messages, text, encode) for text in (pair.a, pair.b))
    if prefix != other or not prefix:
        raise DataError(f"pair {pair.id}: its answers do not continue the same tokens: the chat template mixes them")
    if (total := len(prefix) + max(len(a), len(b))) > max_tokens:
        raise DataError(
            f"pair {pair.id} has {total} tokens with its longer answer, more than {key} = {max_tokens}; "
            "shorten it or raise the limit"
        )
    return Tree(
        prefix=prefix,
        branches=tuple(
            Branch(tokens=tokens, mask=(True,) * len(tokens), preferred=p)
            for tokens, p in ((a, pair.p), (b, 1 - pair.p))
        ),
    )


def _answer_tokens(messages: Sequence[Message], text: str, encode: Encode) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(prompt, answer): the answer is the last run of tokens that the assistant wrote."""
    tokens, written = encode([*messages, {"role": "assistant", "content": text}])
    end = len(written)
    while end and not written[end - 1]:
        end -= 1  # what the template puts behind the closing token
    first = end
    while first and written[first - 1]:
        first -= 1
    return tokens[:first], tokens[first:end]


def best_and_worst(item: Scored, label: str) -> Tree | None:
    """The highest and the lowest rewarded completion of a group, or None where no two rewards differ.

    label: "hard" (p = 1) or "bradley_terry" (p = σ(r_best − r_worst)). Of equal ones the first drawn is taken;
    completions without a reward or without a token take no part.
    """
    places = best_and_worst_places(item)
    if places is None:
        return None
    best, worst = (item.group.rollouts[i] for i in places)
    high, low = (item.scores[i].value or 0.0 for i in places)
    p = 1.0 if label == "hard" else 1 / (1 + math.exp(low - high))
    return Tree(
        prefix=item.group.prompt_tokens,
        branches=tuple(
            Branch(tokens=rollout.tokens, mask=(True,) * len(rollout.tokens), preferred=share)
            for rollout, share in ((best, p), (worst, 1 - p))
        ),
    )


def best_and_worst_places(item: Scored) -> tuple[int, int] | None:
    """(index of the highest, of the lowest) rewarded completion that has a token; None where no two rewards differ."""
    ranked = [
        (score.value, i)
        for i, (rollout, score) in enumerate(zip(item.group.rollouts, item.scores, strict=True))
        if score.value is not None and rollout.tokens
    ]
    if not ranked:
        return None
    (high, best), (low, worst) = max(ranked, key=lambda r: r[0]), min(ranked, key=lambda r: r[0])
    return (best, worst) if high != low else None


def pair_batch(trees: Sequence[Tree], reference: Sequence[Sequence[Sequence[float]]]) -> Batch:
    """The pairs of a step with the reference's log-probabilities; no pair is ever cut."""
    told = tuple(
        replace(
            tree,
            branches=tuple(
                replace(branch, reference_logprobs=tuple(row)) for branch, row in zip(tree.branches, rows, strict=True)
            ),
        )
        for tree, rows in zip(trees, reference, strict=True)
    )
    tokens = sum(len(branch.tokens) for tree in trees for branch in tree.branches)
    count = 2 * len(trees)
    return Batch(
        trees=told,
        totals=Totals(tokens=tokens, sequences=count, completions=count, prompts=len(trees)),
        whole=True,
    )
