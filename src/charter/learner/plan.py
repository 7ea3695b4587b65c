"""How a step is cut into micro-batches. The cut decides memory and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from charter.model import flex
from charter.model.load import Policy
from charter.model.prefix import forwarded_tokens
from charter.types import Tree

_MEMORY_SHARE = 0.3
_MOST_TOKENS = 16_384
ENOUGH_TOKENS = 1024
"""Most tokens that several trees make together in a forward on a CPU; a larger tree goes alone. More were no faster on
two cores, and activations are most of the memory (docs/performance.md)."""

PART_TOKENS = 512
"""Most branch tokens in a part of a tree whose prefix stays open, where two parts go through at once."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A tree, or part of its branches, that goes into one micro-batch. group: number of its tree in the step."""

    group: int
    tree: Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Consecutive micro-batches of a step. first: number of the first of them. batches: the pieces of each.

    prefix: of the one tree whose parts they are, to be read once for all (`charter.learner.open_prefix`); None: each
    stands for itself.
    """

    first: int
    batches: Sequence[Sequence[Piece]]
    prefix: tuple[int, ...] | None

    @property
    def held_tokens(self) -> int:
        """Tokens whose activations are there whichever of the micro-batches is worked on."""
        return len(self.prefix or ())

    @property
    def sizes(self) -> list[int]:
        """Tokens that each micro-batch forwards."""
        return [sum(forwarded_tokens(piece.tree) - self.held_tokens for piece in pieces) for pieces in self.batches]


def microbatches(
    trees: Sequence[Tree],
    budget: int,
    attention_share: float = 0.0,
    *,
    enough: int | None = None,
    whole: bool = False,
    opened: bool = False,
) -> list[list[Piece]]:
    """Consecutive trees of at most `budget` tokens together, and of at most `enough` where that is given.

    A tree counts its forwarded tokens, and attention_share for every prefix or branch position that attention lays
    out anew for each branch (see `attention_share`).

    Whole trees stay together. A tree that is larger than the budget alone is cut between branches, and a single branch
    is never cut. opened: the prefix of a cut tree stays open, so a tree that is more than enough is cut as well, and
    its parts count without the prefix; otherwise every part repeats it. whole: no tree is cut, however large.
    """
    batches: list[list[Piece]] = []
    together = min(budget, enough or budget)
    room = 0.0
    for group, tree in enumerate(trees):
        if whole:
            parts = [tree]
        elif opened:
            parts = _opened(tree, budget, together, attention_share)
        else:
            parts = _halved(tree, lambda part: _size(part, attention_share) <= budget)
        for part in parts:
            size = _size(part, attention_share)
            if not batches or size > room or len(parts) > 1:
                batches.append([])
                room = together
            batches[-1].append(Piece(group, part))
            room -= size
        if len(parts) > 1:
            room = 0.0
    return batches


def stretches(batches: Sequence[Sequence[Piece]], *, opened: bool = False) -> list[Stretch]:
    """The micro-batches of a step in order; where prefixes stay open, those of one cut tree by themselves."""
    parts = Counter(pieces[0].group for pieces in batches)

    def cut(pieces: Sequence[Piece]) -> int | None:
        group = pieces[0].group
        return group if opened and parts[group] > 1 else None

    found: list[Stretch] = []
    for group, several in groupby(enumerate(batches), key=lambda one: cut(one[1])):
        numbered = list(several)
        prefix = None if group is None else numbered[0][1][0].tree.prefix
        found.append(Stretch(first=numbered[0][0], batches=[pieces for _, pieces in numbered], prefix=prefix))
    return found


def attention_share(policy: Policy) -> float:
    """Memory of one key and value that is copied per branch, as a share of a forwarded token's activations; 0 where
    branches attend to their prefix without copies (`charter.model.two_part`, `charter.model.flex`)."""
    if flex.serves(policy.device):
        return 0.0
    config = policy.config
    plain = getattr(config, "attn_logit_softcapping", None) is None and not _windowed(config)
    if plain and policy.device.type == "cpu" and policy.compute == policy.head.weight.dtype:
        return 0.0
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    layers = config.num_hidden_layers
    return 2 * width * layers * 4 / activation_bytes_per_token(config)


def opens_prefixes(policy: Policy, *, checkpointing: bool = False) -> bool:
    """Whether parts of a tree share one reading of its prefix. Not on CUDA, where a whole tree is one product; with
    checkpointing activations are few; in bfloat16 the parts' gradients would be added up in bfloat16; and rotary angles
    that look at the longest position would turn a prefix by itself otherwise."""
    plain = policy.device.type == "cpu" and policy.compute == policy.head.weight.dtype and policy.steady
    return plain and not checkpointing


def keeps_little(policy: Policy) -> bool:
    """Whether the forward keeps what `charter.model.lean` says, and nothing for windows or norms over each head."""
    config = policy.config
    return policy.device.type == "cpu" and policy.lean and not _windowed(config) and config.model_type != "qwen3"


def _windowed(config: Any) -> bool:
    return bool(getattr(config, "sliding_window", None)) and getattr(config, "use_sliding_window", True)


def _size(tree: Tree, share: float) -> float:
    longest = max((len(branch.tokens) for branch in tree.branches), default=0)
    return forwarded_tokens(tree) + share * len(tree.branches) * (len(tree.prefix) + longest)


def _opened(tree: Tree, budget: int, together: int, share: float) -> list[Tree]:
    """Parts of a tree whose prefix stays open; the tree itself where that is small, or its branches one part."""
    if _size(tree, share) <= together:
        return [tree]
    most = len(tree.prefix) + PART_TOKENS
    return _halved(tree, lambda part: forwarded_tokens(part) <= most and _size(part, share) <= budget)


def _halved(tree: Tree, fits: Callable[[Tree], bool]) -> list[Tree]:
    """The tree, or its branches in halves of halves that fit, the prefix with each; a single branch always fits."""
    if fits(tree) or len(tree.branches) <= 1:
        return [tree]
    half = len(tree.branches) // 2
    return [
        part
        for branches in (tree.branches[:half], tree.branches[half:])
        for part in _halved(Tree(prefix=tree.prefix, branches=branches), fits)
    ]


def activation_bytes_per_token(
    config: Any, *, lean: bool = False, checkpointing: bool = False, element_bytes: int = 4
) -> int:
    """Activations kept for the backward, per forwarded token.

    Per layer about 12 D (norms, residuals, projections), 4 I (gated MLP) and 4 H·d (queries, keys, values after
    rotation and repetition) elements; with activation checkpointing one D per layer, plus one layer in full. lean: as
    `charter.model.lean` keeps them, about 3 D (residuals), 2 I and (3 H + 2 Hkv) d.
    """
    width = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * width
    head_dim = getattr(config, "head_dim", None) or width // config.num_attention_heads
    heads = config.num_attention_heads * head_dim
    layers = config.num_hidden_layers
    if lean and not checkpointing:
        kv_heads = (getattr(config, "num_key_value_heads", None) or config.num_attention_heads) * head_dim
        return element_bytes * layers * (3 * width + 2 * inner + 3 * heads + 2 * kv_heads)
    layer = 12 * width + 4 * inner + 4 * heads
    return element_bytes * (layers * width + layer if checkpointing else layers * layer)


def enough_tokens(device: torch.device) -> int | None:
    """What `microbatches` calls enough on this device; None where larger forwards are faster."""
    return ENOUGH_TOKENS if device.type == "cpu" else None


def token_budget(policy: Policy, *, checkpointing: bool = False) -> int:
    """Forwarded tokens of one micro-batch, derived from the memory of the policy's device."""
    width = 2 if policy.compute == torch.bfloat16 else 4
    lean = keeps_little(policy)
    cost = activation_bytes_per_token(policy.config, lean=lean, checkpointing=checkpointing, element_bytes=width)
    budget = max(256, int(_MEMORY_SHARE * policy.memory_bytes / cost))
    return min(_MOST_TOKENS, 1 << (budget.bit_length() - 1))
