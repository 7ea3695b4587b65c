"""Log-probabilities of given continuations, one forward for many requests, without gradient.

A choice c₁ … c_k after a prompt needs the hidden states behind prompt, c₁ … c_{k−1}: its *stem*. Choices of one token
all have the same stem, the prompt itself. Stems that begin alike are the branches of one tree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from charter.errors import ModelError
from charter.model.load import Policy
from charter.model.logprobs import token_logprobs
from charter.model.prefix import PackedTrees, forwarded_tokens
from charter.sampler.sharing import common_length, families
from charter.sampler.trunk import PACK_CELLS, PACK_TOKENS, packs
from charter.types import Branch, ChoiceRequest, Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """A request in tokens: what stands before the choices, and each choice."""

    prompt: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stem:
    """What is forwarded for some choices of one task."""

    task: int
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    """A tree, and the stem that each of its branches completes. A branch ends in one token that is not forwarded."""

    tree: Tree
    stems: tuple[_Stem, ...]

    @property
    def cells(self) -> int:
        """Keys that the branches look at together."""
        return len(self.stems) * (len(self.tree.prefix) + max(len(branch.tokens) for branch in self.tree.branches))


def encode_choices(policy: Policy, request: ChoiceRequest) -> Weighed:
    """A request's ids. The beginning and a choice are tokenized together; where that changes the beginning's last
    tokens (a space that belongs to the next word), they count as part of every choice.

    Raises: ModelError for a choice without tokens, no choice at all, or more tokens than the model has positions for.
    """
    chat, limit = policy.chat, policy.max_positions

    def ids(text: str) -> tuple[int, ...]:
        return tuple(chat.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()

    if not request.choices:
        raise ModelError("the request has no choices")
    begin = ids(request.begin)
    joint = [ids(request.begin + choice) for choice in request.choices]
    kept = min(common_length(begin, one) for one in joint)
    choices = tuple(one[kept:] for one in joint)
    for text, tokens in zip(request.choices, choices, strict=True):
        if not text or not tokens:
            raise ModelError(f"the choice {text!r} has no tokens")
    prompt = (*chat.encode_prompt(request.messages), *begin[:kept])
    if not prompt:
        raise ModelError("the request is empty: it has no tokens to continue")
    length = len(prompt) + max(map(len, choices))
    if limit is not None and length > limit:
        raise ModelError(f"the request has {length} tokens with its longest choice; the model has {limit} positions")
    return Weighed(prompt=prompt, choices=choices)


def weigh(policy: Policy, tasks: Sequence[Weighed]) -> Iterator[list[tuple[int, tuple[float, ...]]]]:
    """Yield (number of the task, log-probability of each of its choices) as they are there, one forward at a time."""
    stems = [
        _Stem(task=number, tokens=tokens)
        for number, task in enumerate(tasks)
        for tokens in dict.fromkeys((*task.prompt, *choice[:-1]) for choice in task.choices)
    ]
    missing = Counter(stem.task for stem in stems)
    found: list[dict[tuple[int, ...], float]] = [{} for _ in tasks]
    for batch in _batches(stems):
        for number, choice, logprob in _forward(policy, batch, tasks):
            found[number][choice] = logprob
        done = Counter(stem.task for planned in batch for stem in planned.stems)
        missing -= done  # drops those that have all
        yield [
            (number, tuple(found[number][choice] for choice in tasks[number].choices))
            for number in done
            if number not in missing
        ]


def _batches(stems: Sequence[_Stem]) -> Iterator[list[_Planned]]:
    """Trees of the stems, as many in one forward as its bounds allow."""
    batch: list[_Planned] = []
    tokens = cells = 0
    for planned in _plan(stems):
        more = forwarded_tokens(planned.tree)
        if batch and (tokens + more > PACK_TOKENS or cells + planned.cells > PACK_CELLS):
            yield batch
            batch, tokens, cells = [], 0, 0
        batch.append(planned)
        tokens += more
        cells += planned.cells
    if batch:
        yield batch


def _plan(stems: Sequence[_Stem]) -> Iterator[_Planned]:
    for family in families([stem.tokens for stem in stems]):
        members = sorted((stems[i] for i in family.rows), key=lambda stem: len(stem.tokens))
        if not family.shared or len(members) == 1:
            yield from (_planned(len(stem.tokens), [stem]) for stem in members)
            continue
        for piece in packs([len(stem.tokens) - family.shared for stem in members], family.shared):
            yield _planned(family.shared, members[piece])


def _planned(shared: int, stems: Sequence[_Stem]) -> _Planned:
    branches = ((*stem.tokens[shared:], 0) for stem in stems)
    return _Planned(
        tree=Tree(
            prefix=stems[0].tokens[:shared],
            branches=tuple(Branch(tokens=tokens, mask=(True,) * len(tokens)) for tokens in branches),
        ),
        stems=tuple(stems),
    )


def _forward(
    policy: Policy, batch: Sequence[_Planned], tasks: Sequence[Weighed]
) -> Iterator[tuple[int, tuple[int, ...], float]]:
    """(task, choice, log-probability) of every choice whose stem is in the batch."""
    packed = PackedTrees.pack([planned.tree for planned in batch], policy.device)
    sources: list[list[int]] = packed.source.tolist()
    places: list[int] = []
    targets: list[int] = []
    asked: list[tuple[int, tuple[int, ...]]] = []
    branch = 0
    for planned, span in zip(batch, packed.spans, strict=True):
        shared = len(planned.tree.prefix)
        for stem in planned.stems:
            # where the hidden state of each of the stem's tokens lies; a branch's first source is the prefix's last
            row = [*range(span.start, span.start + shared - 1), *sources[branch]]
            branch += 1
            task = tasks[stem.task]
            for choice in dict.fromkeys(task.choices):
                if (*task.prompt, *choice[:-1]) == stem.tokens:
                    first = len(task.prompt) - 1
                    places += row[first : first + len(choice)]
                    targets += choice
                    asked.append((stem.task, choice))
    with torch.inference_mode(), policy.arithmetic():
        hidden = policy.hidden(packed.tokens, packed.positions, packed.layout())
        wanted = torch.tensor(targets, dtype=torch.long, device=policy.device)
        predicting = hidden.index_select(0, torch.tensor(places, device=policy.device))
        logprobs: list[float] = token_logprobs(predicting, policy.head, wanted)[0].tolist()
    at = 0
    for number, choice in asked:
        yield number, choice, sum(logprobs[at : at + len(choice)])
        at += len(choice)
