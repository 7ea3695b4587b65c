"""Keys and values while decoding: a prompt's once per group, each completion's own beside it.

Rows are kept as a rectangle `[N groups, G slots]`. A finished row leaves the dense part of the batch at once
(its slot idles in attention only); when half of the slots idle, the rectangle is packed anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from charter.model.attention import AttentionSpec
from charter.model.load import Policy
from charter.sampler.prefill import Prefill

_FIRST_CAPACITY = 64
_MEMORY_SHARE = 0.25


def rows_that_fit(policy: Policy, prompt_tokens: int, completions: int, max_new_tokens: int) -> int:
    """Completions whose keys and values together take at most a quarter of the device's memory.

    prompt_tokens: of the longest prompt, shared by its completions.
    """
    width = 2 if policy.compute == torch.bfloat16 else 4
    per_token = 2 * policy.config.num_hidden_layers * policy.kv_heads * policy.head_dim * width
    return int(policy.memory_bytes * _MEMORY_SHARE / (per_token * (max_new_tokens + prompt_tokens / completions)))


class GroupCache:
    """Keys and values of N prompts, each continued by G completions that are at the same position t.

    prompts: become this cache's own.
    prompt_keys, prompt_values: per layer `[N, Hkv, P, D]`, padded to the longest prompt.
    own_keys, own_values: per layer `[N · G, Hkv, capacity, D]`, of which the first t are filled.
    """

    def __init__(self, prompts: Prefill, completions: int, max_new_tokens: int) -> None:
        self.completions = completions
        self.step = 0
        self.lengths = prompts.lengths
        self.padded = len(set(self.lengths.tolist())) > 1
        self._max_new = max_new_tokens
        self.prompt_keys, self.prompt_values = prompts.keys, prompts.values
        self.own_keys: list[Tensor] = []
        self.own_values: list[Tensor] = []
        for keys in self.prompt_keys:  # no cells yet: lanes have their own
            shape = (len(self.lengths) * completions, keys.shape[1], 0, keys.shape[3])
            self.own_keys.append(keys.new_empty(shape))
            self.own_values.append(keys.new_empty(shape))

    @property
    def groups(self) -> int:
        return len(self.lengths)

    @property
    def slots(self) -> int:
        return self.groups * self.completions

    def positions(self, slots: Tensor) -> Tensor:
        """Position of the token that each of these slots is about to read."""
        return self.lengths[slots // self.completions] + self.step

    def layout(self, live: Tensor) -> DecodeLayout:
        """Layout of one decoding step for the live slots `[L]`, in that order."""
        self.reserve(self.step + 1)
        return DecodeLayout(self, live)

    @property
    def capacity(self) -> int:
        """Own tokens that there is room for."""
        return self.own_keys[0].shape[2]

    def reserve(self, cells: int) -> None:
        """Make room for so many own tokens: at least twice the room there was, at most max_new_tokens."""
        had = self.capacity
        if cells <= had:
            return
        extra = min(max(had, cells - had, _FIRST_CAPACITY), self._max_new - had)
        for store in (self.own_keys, self.own_values):
            for layer, old in enumerate(store):
                store[layer] = torch.nn.functional.pad(old, (0, 0, 0, extra))

    def pack(self, live: Sequence[int]) -> list[int] | None:
        """Drop idle slots if at least half are idle. Returns the live slots' new numbers, in the same order."""
        by_group: dict[int, list[int]] = {}
        for slot in live:
            by_group.setdefault(slot // self.completions, []).append(slot)
        width = max(map(len, by_group.values()), default=0)
        if not width or 2 * width * len(by_group) > self.slots:
            return None
        device = self.lengths.device
        groups = sorted(by_group)
        order = [slot for g in groups for slot in by_group[g] + [by_group[g][0]] * (width - len(by_group[g]))]
        renumbered = {slot: g * width + i for g, group in enumerate(groups) for i, slot in enumerate(by_group[group])}
        kept_groups, kept_slots = torch.tensor(groups, device=device), torch.tensor(order, device=device)
        self.lengths = self.lengths[kept_groups]
        self.completions = width
        for layer in range(len(self.own_keys)):
            self.prompt_keys[layer] = self.prompt_keys[layer][kept_groups]
            self.prompt_values[layer] = self.prompt_values[layer][kept_groups]
            self.own_keys[layer] = self.own_keys[layer][kept_slots]
            self.own_values[layer] = self.own_values[layer][kept_slots]
        return [renumbered[slot] for slot in live]


class DecodeLayout:
    """One new token per live row: it attends to its group's prompt and to its own tokens so far.

    Scores against the prompt are one product per group (all completions at once); the two parts share one softmax.
    """

    def __init__(self, cache: GroupCache, live: Tensor) -> None:
        self._cache = cache
        self._live = live
        self._everyone = len(live) == cache.slots  # then in the order of the slots
        self._masks: dict[int | None, Tensor] = {}

    def _write(self, store: Tensor, new: Tensor) -> None:
        """Put the live rows' new keys or values `[L, Hkv, D]` into the cell of this step."""
        store[slice(None) if self._everyone else self._live, :, self._cache.step] = new

    @property
    def _length(self) -> int:
        """Own cells that are looked at."""
        return self._cache.step + 1

    def attend(self, query: Tensor, key: Tensor, value: Tensor, spec: AttentionSpec) -> Tensor:
        cache, live = self._cache, self._live
        own_keys, own_values = cache.own_keys[spec.layer], cache.own_values[spec.layer]
        prompt_keys, prompt_values = cache.prompt_keys[spec.layer], cache.prompt_values[spec.layer]
        self._write(own_keys, key.transpose(0, 1).to(own_keys.dtype))
        self._write(own_values, value.transpose(0, 1).to(own_values.dtype))
        groups, kv_heads, width, size = prompt_keys.shape
        rows, length = cache.slots, self._length
        share = query.shape[0] // kv_heads
        new = query.transpose(0, 1)
        if not self._everyone:
            new = new.new_zeros(rows, *new.shape[1:]).index_copy_(0, live, new)
        by_row = new.reshape(rows, kv_heads, share, size) * spec.scale
        by_group = by_row.view(groups, cache.completions, kv_heads, share, size).transpose(1, 2).flatten(2, 3)
        with_prompt = by_group @ prompt_keys.transpose(-1, -2)
        with_prompt = with_prompt.view(groups, kv_heads, cache.completions, share, width).transpose(1, 2)
        with_own = (by_row @ own_keys[:, :, :length].transpose(-1, -2)).view(
            groups, cache.completions, kv_heads, share, length
        )
        scores = torch.cat([with_prompt, with_own], dim=-1)
        if spec.softcap is not None:
            scores = spec.softcap * torch.tanh(scores / spec.softcap)
        if (hidden := self._hidden(spec.window)) is not None:
            scores = scores.masked_fill_(hidden, float("-inf"))
        weights = torch.softmax(scores, dim=-1)
        to_prompt = weights[..., :width].transpose(1, 2).flatten(2, 3) @ prompt_values
        to_prompt = to_prompt.view(groups, kv_heads, cache.completions, share, size).transpose(1, 2)
        to_own = weights[..., width:].reshape(rows, kv_heads, share, length) @ own_values[:, :, :length]
        out = (to_prompt.reshape(rows, -1, size) + to_own.reshape(rows, -1, size)).to(query.dtype)
        return out if self._everyone else out[live]

    def _hidden(self, window: int | None) -> Tensor | None:
        """Which keys a group must not see, `[N, 1, 1, 1, P + t + 1]`: padding, and what lies outside the window; None
        where it sees all."""
        if window is None and not self._cache.padded:
            return None
        if window not in self._masks:
            cache = self._cache
            lengths = cache.lengths[:, None]
            width, device = cache.prompt_keys[0].shape[2], lengths.device
            prompt_at = torch.arange(width, device=device).expand(cache.groups, -1)
            own_at = lengths + torch.arange(cache.step + 1, device=device)
            hidden = torch.cat([prompt_at >= lengths, torch.zeros_like(own_at, dtype=torch.bool)], dim=1)
            if window is not None:
                hidden |= lengths + cache.step - torch.cat([prompt_at, own_at], dim=1) >= window
            self._masks[window] = hidden[:, None, None, None, :]
        return self._masks[window]


class StaticLayout(DecodeLayout):
    """The same for all slots, with shapes that do not depend on the step: later cells are looked at too, and hidden.

    cell: scalar tensor on the cache's device, the number of own tokens that are in the cache already.
    """

    def __init__(self, cache: GroupCache, cell: Tensor) -> None:
        super().__init__(cache, torch.arange(cache.slots, device=cell.device))
        self._cell = cell

    def _write(self, store: Tensor, new: Tensor) -> None:
        store.index_copy_(2, self._cell[None], new[:, :, None])

    @property
    def _length(self) -> int:
        return self._cache.capacity

    def _hidden(self, window: int | None) -> Tensor:
        if window not in self._masks:
            cache, device = self._cache, self._cell.device
            lengths = cache.lengths[:, None]
            prompt_at = torch.arange(cache.prompt_keys[0].shape[2], device=device).expand(cache.groups, -1)
            own = torch.arange(cache.capacity, device=device).expand(cache.groups, -1)
            hidden = torch.cat([prompt_at >= lengths, own > self._cell], dim=1)
            if window is not None:
                hidden |= lengths + self._cell - torch.cat([prompt_at, lengths + own], dim=1) >= window
            self._masks[window] = hidden[:, None, None, None, :]
        return self._masks[window]
