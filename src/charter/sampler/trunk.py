"""Keys and values while decoding sequences that begin alike: the trunk's once, each row's own beside it.

    row i:  [ trunk, S tokens | its rest, in the last of R cells | what it writes ]

A rest shorter than the longest stands at the right end of the R cells, so that all rows write the same cell at the same
time. Rows that have ended leave the dense part of the batch at once and the cache when a quarter of it idles.

Not here: completions of one prompt (`charter.sampler.cache`).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from itertools import accumulate

import torch
from torch import Tensor

from charter.model.attention import AttentionSpec
from charter.model.load import Policy
from charter.model.prefix import TreeLayout, TreeSpan
from charter.sampler.prefill import Recording

_FIRST_CAPACITY = 64
_MEMORY_SHARE = 0.25
PACK_TOKENS = 4096
"""Most tokens beyond the trunk in one forward over sequences that are read, not written."""
PACK_CELLS = 65536
"""Most keys that the sequences of one such forward look at together; it bounds the expanded copies of the trunk."""


def bytes_per_token(policy: Policy) -> int:
    """Memory of one token's keys and values in every layer."""
    width = 2 if policy.compute == torch.bfloat16 else 4
    return 2 * policy.config.num_hidden_layers * policy.kv_heads * policy.head_dim * width


def rows_within_memory(policy: Policy, longest_rest: int, max_new_tokens: int) -> int:
    """Rows whose keys and values together take at most a quarter of the device's memory; at least one."""
    return max(
        1, int(policy.memory_bytes * _MEMORY_SHARE / (bytes_per_token(policy) * (longest_rest + max_new_tokens)))
    )


def packs(lengths: Sequence[int], shared: int) -> list[slice]:
    """Runs of consecutive rests that fit in one forward behind a trunk of `shared` tokens."""
    found: list[slice] = []
    first = tokens = longest = 0
    for i, length in enumerate(lengths):
        longest = max(longest, length)
        if i > first and (tokens + length > PACK_TOKENS or (i - first + 1) * (shared + longest) > PACK_CELLS):
            found.append(slice(first, i))
            first, tokens, longest = i, 0, length
        tokens += length
    return [*found, slice(first, len(lengths))] if lengths else []


class TrunkCache:
    """Keys and values of N sequences with a common beginning, and room for what each writes.

    sequences: at least one token longer than `shared` each. last_hidden: `[N, D]`, the last hidden state of each.
    trunk_keys, trunk_values: per layer `[Hkv, S, D]`. own_keys, own_values: per layer `[N, Hkv, R + capacity, D]`.
    """

    def __init__(self, policy: Policy, sequences: Sequence[Sequence[int]], shared: int, max_new_tokens: int) -> None:
        rests = [tuple(sequence[shared:]) for sequence in sequences]
        self.shared = shared
        self.rests = torch.tensor([len(rest) for rest in rests], device=policy.device)
        self.width = int(self.rests.max())
        self.step = 0
        self._max_new = max_new_tokens
        self._size = (policy.kv_heads, policy.head_dim)
        self._capacity = min(max_new_tokens, _FIRST_CAPACITY)
        self.trunk_keys: list[Tensor] = []
        self.trunk_values: list[Tensor] = []
        self.own_keys: list[Tensor] = []
        self.own_values: list[Tensor] = []
        self.last_hidden = self._prefill(policy, tuple(sequences[0][:shared]), rests)

    @property
    def slots(self) -> int:
        return len(self.rests)

    def _prefill(self, policy: Policy, trunk: tuple[int, ...], rests: Sequence[tuple[int, ...]]) -> Tensor:
        """Run the rests behind the trunk; keep keys and values; return the last hidden state of each."""
        last: list[Tensor] = []
        for pack in packs([len(rest) for rest in rests], self.shared):
            lengths = [len(rest) for rest in rests[pack]]
            ends = [self.shared + end for end in accumulate(lengths)]
            if trunk:
                spans = [TreeSpan(0, self.shared, tuple(lengths))]
            else:
                spans = [TreeSpan(end - n, n, ()) for end, n in zip(ends, lengths, strict=True)]
            tokens = torch.tensor([*trunk, *(t for rest in rests[pack] for t in rest)], device=policy.device)
            places = [torch.arange(self.shared, self.shared + n) for n in lengths]
            positions = torch.cat([torch.arange(self.shared), *places]).to(policy.device)
            layout = Recording(TreeLayout(spans, policy.device))
            last.append(policy.hidden(tokens, positions, layout)[[end - 1 for end in ends]])
            self._keep(layout, pack.start, lengths, ends)
        return torch.cat(last)

    def _keep(self, layout: Recording, first: int, lengths: Sequence[int], ends: Sequence[int]) -> None:
        heads, size = self._size
        for layer in sorted(layout.seen):
            for kind, trunks, owns in (
                (0, self.trunk_keys, self.own_keys),
                (1, self.trunk_values, self.own_values),
            ):
                seen = layout.seen[layer][kind]
                if len(trunks) <= layer:
                    trunks.append(seen[:, : self.shared].clone())
                    owns.append(seen.new_zeros(self.slots, heads, self.width + self._capacity, size))
                for i, (n, end) in enumerate(zip(lengths, ends, strict=True), first):
                    owns[layer][i, :, self.width - n : self.width] = seen[:, end - n : end]

    def positions(self, slots: Tensor) -> Tensor:
        """Position of the token that each of these slots is about to read."""
        return self.shared + self.rests[slots] + self.step

    def layout(self, live: Tensor) -> TrunkLayout:
        """Layout of one decoding step for the live slots `[L]`, in that order."""
        if self.step == self._capacity:
            extra = min(self.step, self._max_new - self.step)
            for store in (self.own_keys, self.own_values):
                for layer, old in enumerate(store):
                    store[layer] = torch.nn.functional.pad(old, (0, 0, 0, extra))
            self._capacity += extra
        return TrunkLayout(self, live)

    def pack(self, live: Sequence[int]) -> list[int] | None:
        """Drop idle slots if at least a quarter is idle. Returns the live slots' new numbers, in the same order."""
        if not live or 4 * len(live) > 3 * self.slots:
            return None
        self._keep_only(live)
        return list(range(len(live)))

    def part(self, slots: Sequence[int]) -> TrunkCache:
        """Some of the rows behind the same trunk; from now on both write by themselves."""
        part = copy(self)
        part.own_keys, part.own_values = list(self.own_keys), list(self.own_values)
        part._keep_only(slots)
        return part

    def _keep_only(self, slots: Sequence[int]) -> None:
        kept = torch.tensor(slots, device=self.rests.device)
        self.rests, self.last_hidden = self.rests[kept], self.last_hidden[kept]
        for store in (self.own_keys, self.own_values):
            for layer, old in enumerate(store):
                store[layer] = old[kept]


class TrunkLayout:
    """One new token per live row: it attends to the trunk, to its own rest and to what it has written.

    Scores against the trunk are one product for all rows; the two parts share one softmax.
    """

    def __init__(self, cache: TrunkCache, live: Tensor) -> None:
        self._cache = cache
        self._live = live
        self._everyone = len(live) == cache.slots
        self._masks: dict[int | None, Tensor] = {}

    def attend(self, query: Tensor, key: Tensor, value: Tensor, spec: AttentionSpec) -> Tensor:
        cache, live = self._cache, self._live
        own_keys, own_values = cache.own_keys[spec.layer], cache.own_values[spec.layer]
        trunk_keys, trunk_values = cache.trunk_keys[spec.layer], cache.trunk_values[spec.layer]
        cell = cache.width + cache.step
        own_keys[live, :, cell] = key.transpose(0, 1).to(own_keys.dtype)
        own_values[live, :, cell] = value.transpose(0, 1).to(own_values.dtype)
        kv_heads, width, size = trunk_keys.shape
        rows, share = cache.slots, query.shape[0] // kv_heads
        new = query.transpose(0, 1).to(own_keys.dtype)
        if not self._everyone:
            new = new.new_zeros(rows, *new.shape[1:]).index_copy_(0, live, new)
        by_row = new.reshape(rows, kv_heads, share, size) * spec.scale
        by_head = by_row.transpose(0, 1).flatten(1, 2)
        with_trunk = (by_head @ trunk_keys.transpose(-1, -2)).view(kv_heads, rows, share, width).transpose(0, 1)
        with_own = by_row @ own_keys[:, :, : cell + 1].transpose(-1, -2)
        scores = torch.cat([with_trunk, with_own], dim=-1)
        if spec.softcap is not None:
            scores = spec.softcap * torch.tanh(scores / spec.softcap)
        weights = torch.softmax(scores.masked_fill_(self._hidden(spec.window), float("-inf")), dim=-1)
        to_trunk = weights[..., :width].transpose(0, 1).flatten(1, 2) @ trunk_values
        to_own = weights[..., width:] @ own_values[:, :, : cell + 1]
        summed = to_trunk.view(kv_heads, rows, share, size).transpose(0, 1) + to_own
        out = summed.reshape(rows, -1, size).to(query.dtype)
        return out if self._everyone else out[live]

    def _hidden(self, window: int | None) -> Tensor:
        """What a row must not see, `[N, 1, 1, S + R + t + 1]`: empty cells, and what lies outside the window."""
        if window not in self._masks:
            cache = self._cache
            rests, device = cache.rests[:, None], cache.rests.device
            cells = torch.arange(cache.width + cache.step + 1, device=device)
            own_at = cache.shared + rests - cache.width + cells
            hidden = torch.cat([rests.new_zeros(cache.slots, cache.shared, dtype=torch.bool), own_at < cache.shared], 1)
            if window is not None:
                at = torch.cat([torch.arange(cache.shared, device=device).expand(cache.slots, -1), own_at], dim=1)
                hidden |= cache.shared + rests + cache.step - at >= window
            self._masks[window] = hidden[:, None, None, :]
        return self._masks[window]
