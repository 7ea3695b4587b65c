"""Prompts go through the model once: their keys and values, and the state that the first token is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from charter.model.attention import AttentionSpec
from charter.model.load import Policy
from charter.model.prefix import TreeLayout, TreeSpan

PREFILL_TOKENS = 4096
"""Most prompt tokens in one prefill forward (a single longer prompt still goes through whole)."""


@dataclass(frozen=True, slots=True)
class Prefill:
    """What decoding needs of N prompts.

    lengths: `[N]`. keys, values: per layer `[N, Hkv, P, D]`, zeros behind the end of a prompt that is not the longest.
    last_hidden: `[N, D]`, of each prompt's last token.
    """

    lengths: Tensor
    keys: list[Tensor]
    values: list[Tensor]
    last_hidden: Tensor

    def some(self, numbers: Sequence[int]) -> Prefill:
        """Of these prompts, in this order."""
        if list(numbers) == list(range(len(self.lengths))):
            return replace(self, keys=list(self.keys), values=list(self.values))
        at = torch.tensor(numbers, device=self.lengths.device)
        keys, values = ([x[at] for x in stores] for stores in (self.keys, self.values))
        return Prefill(self.lengths[at], keys, values, self.last_hidden[at])


def prefill(policy: Policy, prompts: Sequence[Sequence[int]]) -> Prefill:
    """Run every prompt once."""
    lengths = torch.tensor([len(p) for p in prompts], device=policy.device)
    shape = (len(prompts), policy.kv_heads, int(lengths.max()), policy.head_dim)
    all_keys: list[Tensor] = []
    all_values: list[Tensor] = []
    last: list[Tensor] = []
    for pack in _packs([len(p) for p in prompts], PREFILL_TOKENS):
        spans: list[TreeSpan] = []
        for i in pack:
            spans.append(TreeSpan(spans[-1].start + spans[-1].prefix if spans else 0, len(prompts[i]), ()))
        tokens = torch.tensor([t for i in pack for t in prompts[i]], device=policy.device)
        positions = torch.cat([torch.arange(len(prompts[i])) for i in pack]).to(policy.device)
        layout = Recording(TreeLayout(spans, policy.device))
        hidden = policy.hidden(tokens, positions, layout)
        last.append(hidden[[span.start + span.prefix - 1 for span in spans]])
        for layer in range(policy.config.num_hidden_layers):
            key, value = (_kept(x, policy) for x in layout.seen[layer])
            if len(all_keys) <= layer:
                all_keys.append(key.new_zeros(shape))
                all_values.append(value.new_zeros(shape))
            for i, span in zip(pack, spans, strict=True):
                inside = slice(span.start, span.start + span.prefix)
                all_keys[layer][i, :, : span.prefix] = key[:, inside]
                all_values[layer][i, :, : span.prefix] = value[:, inside]
    return Prefill(lengths, all_keys, all_values, torch.cat(last))


class Recording:
    """A layout that also keeps each layer's keys and values."""

    def __init__(self, inner: TreeLayout) -> None:
        self._inner = inner
        self.seen: dict[int, tuple[Tensor, Tensor]] = {}

    def attend(self, query: Tensor, key: Tensor, value: Tensor, spec: AttentionSpec) -> Tensor:
        self.seen[spec.layer] = key, value
        return self._inner.attend(query, key, value, spec)


def _kept(x: Tensor, policy: Policy) -> Tensor:
    """Keys and values in the dtype of products: rotary positions leave keys in float32, autocast would cast them in
    every step."""
    return x.to(policy.compute) if policy.compute == torch.bfloat16 else x


def _packs(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Runs of consecutive prompts of at most `budget` tokens together."""
    packs: list[list[int]] = []
    room = 0
    for i, length in enumerate(lengths):
        if not packs or length > room:
            packs.append([])
            room = budget
        packs[-1].append(i)
        room -= length
    return packs
