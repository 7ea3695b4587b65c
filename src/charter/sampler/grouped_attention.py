"""Attention of decoding rows over their group's prompt and their own tokens: the two products around the softmax.

    scores[r, h, :] = [ q_rh · K_prompt of r's group | q_rh · K_own of r ]
    mixed[r, h]     = Σ_p w_rhp V_prompt + Σ_t w_rht V_own

A group's prompt is looked at where it lies, once in memory for all its rows. In float32 on a CPU both are kernels of
`charter.model.native`, since the products are small and many: one query against a few keys for each row and head.
Elsewhere batched products: one for each group and head against the prompt, one for each row and head against its own.

q `[R, H, D]`; keys and values of prompts `[N, Hkv, P, D]`, own `[R, Hkv, t, D]`; scores and weights
`[N, R / N, Hkv, H / Hkv, P + t]`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from charter.model.native import LANES, Kernel, compiled, serves, vector

_AT_ONCE = 4
"""Keys, or values, taken together: as many sums as keep both multipliers of a core busy."""


def scores(query: Tensor, prompt_keys: Tensor, own_keys: Tensor) -> Tensor:
    """As above; queries are already multiplied by the scale."""
    (groups, kv_heads, width, size), rows = prompt_keys.shape, len(query)
    each, share, length = rows // groups, query.shape[1] // kv_heads, own_keys.shape[2]
    if _applies(query, prompt_keys, own_keys):
        out = query.new_empty(groups, each, kv_heads, share, width + length)
        by_group = query.unflatten(1, (kv_heads, share)).unflatten(0, (groups, each))
        by_row = by_group.flatten(0, 1)[:, None]
        multiply = _kernels()[0]
        _run(multiply, by_group, prompt_keys, out[..., :width])
        _run(multiply, by_row, own_keys, out.flatten(0, 1)[:, None, ..., width:])
        return out
    by_row = query.reshape(rows, kv_heads, share, size)
    by_group = by_row.view(groups, each, kv_heads, share, size).transpose(1, 2).flatten(2, 3)
    with_prompt = (by_group @ prompt_keys.transpose(-1, -2)).view(groups, kv_heads, each, share, width).transpose(1, 2)
    with_own = (by_row @ own_keys.transpose(-1, -2)).view(groups, each, kv_heads, share, length)
    return torch.cat([with_prompt, with_own], dim=-1)


def mixed(weights: Tensor, prompt_values: Tensor, own_values: Tensor) -> Tensor:
    """`[R, H, D]`, as above."""
    (groups, kv_heads, width, size), rows = prompt_values.shape, len(own_values)
    each, share, length = rows // groups, weights.shape[3], own_values.shape[2]
    if _applies(weights, prompt_values, own_values):
        out = weights.new_zeros(groups, each, kv_heads, share, size)
        add = _kernels()[1]
        _run(add, weights[..., :width], prompt_values, out)
        _run(add, weights.flatten(0, 1)[:, None, ..., width:], own_values, out.flatten(0, 1)[:, None])
        return out.view(rows, -1, size)
    to_prompt = weights[..., :width].transpose(1, 2).flatten(2, 3) @ prompt_values
    to_prompt = to_prompt.view(groups, kv_heads, each, share, size).transpose(1, 2)
    to_own = weights[..., width:].reshape(rows, kv_heads, share, length) @ own_values
    return to_prompt.reshape(rows, -1, size) + to_own.reshape(rows, -1, size)


def _applies(left: Tensor, *right: Tensor) -> bool:
    """Whether the kernels compute the products of scores or weights with keys or values `[…, D]`."""
    return all(x.stride(-1) == 1 for x in (left, *right)) and not right[0].shape[-1] % LANES and serves(left, *right)


def _run(kernel: Callable[..., None], left: Tensor, right: Tensor, out: Tensor) -> None:
    """left, out: `[B, I, Hkv, S, ·]`, where B of them look at right `[B, Hkv, T, D]`.

    Raises: ValueError for shapes that do not belong together, since a kernel reads whatever lies there.
    """
    batch, inner, heads, share, _ = left.shape
    if (
        left.shape[:4] != out.shape[:4]
        or right.shape[:2] != (batch, heads)
        or {left.shape[4], out.shape[4]} != set(right.shape[2:])
    ):
        raise ValueError(f"{[*left.shape]} and {[*right.shape]} do not make {[*out.shape]}")
    numbers = (
        batch, heads, inner, share, right.shape[2], right.shape[3],
        left.stride(0), left.stride(2), left.stride(1), left.stride(3),
        right.stride(0), right.stride(1), right.stride(2),
        out.stride(0), out.stride(2), out.stride(1), out.stride(3),
    )  # fmt: skip
    kernel(left.data_ptr(), right.data_ptr(), out.data_ptr(), (ctypes.c_int64 * len(_NUMBERS))(*numbers))


_NUMBERS = (
    "B", "H", "I", "S", "T", "D",
    "left_b", "left_h", "left_i", "left_s", "right_b", "right_h", "right_t", "out_b", "out_h", "out_i", "out_s",
)  # fmt: skip
"""What a kernel reads from its last pointer: sizes, then strides in floats."""


@cache
def _kernels() -> Sequence[Callable[..., None]]:
    return compiled(_scores(), _mixed())


@contextmanager
def _everywhere(kernel: Kernel) -> Iterator[tuple[dict[str, str], str, str, str]]:
    """For all b, h, i, s: (the numbers by name, addresses of left, right, out there)."""
    given = {
        name: kernel.let(f"load i64, ptr {kernel.let(f'getelementptr i64, ptr %numbers, i64 {n}')}")
        for n, name in enumerate(_NUMBERS)
    }
    with (
        kernel.loop(0, given["B"]) as b,
        kernel.loop(0, given["H"]) as h,
        kernel.loop(0, given["I"]) as i,
        kernel.loop(0, given["S"]) as s,
    ):
        at = {"b": b, "h": h, "i": i, "s": s}
        left, right, out = (
            kernel.at(f"%{name}", kernel.sum(*(kernel.times(at[x], given[f"{name}_{x}"]) for x in axes)))
            for name, axes in (("left", "bhis"), ("right", "bh"), ("out", "bhis"))
        )
        yield given, left, right, out


def _several(kernel: Kernel, count: str) -> Iterator[Sequence[str]]:
    """0 … count in runs of `_AT_ONCE`, then one by one."""
    whole = kernel.let(f"and i64 {count}, {-_AT_ONCE}")
    for first, end, step in ((0, whole, _AT_ONCE), (whole, count, 1)):
        with kernel.loop(first, end, step) as t:
            yield [t, *(kernel.sum(t, j) for j in range(1, step))]


def _scores() -> Kernel:
    """out[t] = Σ_d left[d] · right[t, d]."""
    kernel = Kernel("scores", ("left", "right", "out", "numbers"))
    totals = [kernel.slot(vector(LANES)) for _ in range(_AT_ONCE)]
    with _everywhere(kernel) as (given, left, right, out):
        for keys in _several(kernel, given["T"]):
            rows = [kernel.at(right, kernel.times(t, given["right_t"])) for t in keys]
            for total in totals[: len(keys)]:
                kernel.store("zeroinitializer", total, LANES)
            with kernel.loop(0, given["D"], LANES) as d:
                query = kernel.load(kernel.at(left, d), LANES)
                for total, row in zip(totals, rows, strict=False):
                    kernel.add_product(total, query, kernel.load(kernel.at(row, d), LANES), LANES)
            for total, t in zip(totals, keys, strict=False):
                kernel.store(kernel.added_up(kernel.load(total, LANES), LANES), kernel.at(out, t))
    return kernel


def _mixed() -> Kernel:
    """out[d] += Σ_t left[t] · right[t, d]."""
    kernel, kind = Kernel("mixed", ("left", "right", "out", "numbers")), vector(LANES)
    totals = [kernel.slot(kind) for _ in range(_AT_ONCE)]
    with _everywhere(kernel) as (given, left, right, out), kernel.loop(0, given["D"], LANES) as d:
        place, column = kernel.at(out, d), kernel.at(right, d)
        for total in totals:
            kernel.store("zeroinitializer", total, LANES)
        for cells in _several(kernel, given["T"]):
            for total, t in zip(totals, cells, strict=False):
                weight = kernel.broadcast(kernel.load(kernel.at(left, t)), LANES)
                value = kernel.load(kernel.at(column, kernel.times(t, given["right_t"])), LANES)
                kernel.add_product(total, weight, value, LANES)
        found = kernel.load(place, LANES)
        for total in totals:
            found = kernel.let(f"fadd {kind} {found}, {kernel.load(total, LANES)}")
        kernel.store(found, place, LANES)
    return kernel
