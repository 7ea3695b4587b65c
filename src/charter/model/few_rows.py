"""W x for the few rows of a decoding step, on one core of a CPU, by kernels compiled for the machine.

    y[m, n] = Σ_k x[m, k] · W[n, k]          k in order, one accumulator for each (m, n)

A general matrix product packs W before it multiplies, which pays only where W meets many rows. Here the rows are the
lanes of a vector: a tile of 16 rows and 4 outputs lives in registers, each weight is read once, where it lies, and
broadcast. Nothing is packed, so nothing has to be packed again after an update, and no weight is held twice. What it
gave when it was measured: docs/performance.md.

What a row gives does not depend on the other rows, as long as a kernel computes it: in inference mode, in float32,
for 2 to 64 rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from torch import Tensor
from torch.nn.functional import linear as general

from charter.model.native import Kernel, compiled, serves, vector

LEAST_ROWS, MOST_ROWS = 2, 64
"""Below, torch has a product of a matrix and a vector; above, packing pays."""
_TILES = {8: 8, 16: 4}
"""Rows of a tile → its outputs: 8 accumulators of an AVX2 core's 16 registers, as many as keep its multipliers busy."""
UNROLL = 4


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x `[M, K]`, weight `[N, K]`, bias `[N]` → `[M, N]`, as torch's `linear`; few rows by the kernel above."""
    if not _applies(x, weight):
        return general(x, weight, bias)
    (rows, inner), outputs = x.shape, len(weight)
    lanes = 8 if rows <= 8 else 16
    padded = -(-rows // lanes) * lanes
    columns = x.new_zeros(inner, padded) if padded > rows else x.new_empty(inner, padded)
    columns[:, :rows] = x.T
    y = x.new_empty(padded, outputs)
    tile, multiply = _TILES[lanes], _products()[lanes]
    parts = [(0, outputs - outputs % tile)]
    if outputs % tile:  # the last ones are the end of a tile that overlaps the one before
        parts.append((outputs - tile, tile))
    for first, count in parts:
        at = x.element_size() * first
        multiply(columns.data_ptr(), weight.data_ptr() + at * inner, y.data_ptr() + at, inner, padded, outputs, count)
    return y[:rows] if bias is None else y[:rows].add_(bias)


def _applies(x: Tensor, weight: Tensor) -> bool:
    """Whether the kernel computes this product."""
    return (
        x.dim() == weight.dim() == 2
        and LEAST_ROWS <= len(x) <= MOST_ROWS
        and x.shape[1] == weight.shape[1]
        and x.shape[1] % UNROLL == 0
        and len(weight) >= max(_TILES.values())
        and weight.is_contiguous()
        and serves(x, weight)
    )


@cache
def _products() -> dict[int, Callable[..., None]]:
    """Rows of a tile → kernel."""
    return dict(zip(_TILES, compiled(*(_product(*tile) for tile in _TILES.items())), strict=True))


def _product(lanes: int, outputs: int) -> Kernel:
    """rows_{lanes}(x `[K, M]`, w `[N, K]`, y `[M, N]`, K, M, N, end): y[:, :end], tile by tile.

    The weights of a tile's outputs are fetched while those before them are multiplied, and stay in the cache until
    they have met all rows.
    """
    kernel = Kernel(f"rows_{lanes}", ("x", "w", "y"), ("K", "M", "N", "end"))
    outs, totals = range(outputs), [kernel.slot(vector(lanes)) for _ in range(outputs)]
    ahead = kernel.times("%K", outputs)
    with kernel.loop(0, "%end", outputs) as n:
        weights = [kernel.at("%w", kernel.times(kernel.sum(n, j), "%K")) for j in outs]
        with kernel.loop(0, "%M", lanes) as m:
            rows = kernel.at("%x", m)
            for total in totals:
                kernel.store("zeroinitializer", total, lanes)
            multiply(kernel, rows, "%M", weights, "%K", totals, lanes, ahead=ahead)
            corner = kernel.at(kernel.at("%y", kernel.times(m, "%N")), n)
            done = [kernel.load(total, lanes) for total in totals]
            for r in range(lanes):
                row = kernel.at(corner, kernel.times("%N", r))
                for j in outs:
                    value = kernel.let(f"extractelement {vector(lanes)} {done[j]}, i32 {r}")
                    kernel.store(value, kernel.at(row, j))
    return kernel


def multiply(
    kernel: Kernel,
    x: str,
    stride: str,
    weights: Sequence[str],
    count: str,
    totals: Sequence[str],
    lanes: int,
    *,
    step: str | int = 1,
    ahead: str | None = None,
) -> None:
    """totals[j] += Σ_k x[k · stride] · weights[j][k · step], k below count, a multiple of four.

    x: place of vectors. weights: places of single numbers, broadcast. ahead: how far behind each weight those lie that
    are wanted next, to be fetched meanwhile.
    """
    with kernel.loop(0, count, UNROLL) as first:
        for k in (kernel.sum(first, u) for u in range(UNROLL)):
            vectors = kernel.load(kernel.at(x, kernel.times(k, stride)), lanes)
            at = k if step == 1 else kernel.times(k, step)
            for total, weight in zip(totals, weights, strict=True):
                kernel.add_product(total, vectors, kernel.broadcast(kernel.load(kernel.at(weight, at)), lanes), lanes)
        if ahead is not None:
            soon = kernel.sum(first, ahead)
            for weight in weights:
                kernel.fetch(kernel.at(weight, soon))
