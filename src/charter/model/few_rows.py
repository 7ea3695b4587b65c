"""W x for the few rows of a decoding step, on one core of a CPU, by kernels compiled for the machine.

    y[m, n] = Σ_k x[m, k] · W[n, k]          k in order, one accumulator for each (m, n)

A general matrix product packs W before it multiplies, which pays only where W meets many rows. Here the rows are the
lanes of a vector: a tile of 16 rows and 6 outputs lives in registers, each weight is read once, where it lies, and
broadcast. The few rows are what is laid out anew, tile behind tile, each `[K, lanes]`, so that a tile is read as one
stream. W is not, so nothing has to be packed again after an update, and no weight is held twice. What it gave when it
was measured: docs/performance.md.

What a row gives does not depend on the other rows, as long as a kernel computes it: in inference mode, in float32,
for 2 to 64 rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn.functional import linear as general
from torch.nn.functional import pad

from charter.model.native import Kernel, compiled, once, serves, vector

LEAST_ROWS, MOST_ROWS = 2, 64
"""Below, torch has a product of a matrix and a vector; above, packing pays."""
TILES = {8: 8, 16: 6}
"""Rows of a tile → its outputs: 8 or 12 accumulators of an AVX2 core's 16 registers, enough to keep its multipliers
busy. With 16 rows 6 outputs need 8 loads for 12 products, where 4 would need 6 for 8."""
UNROLL = 8

Begin = Callable[[Kernel, str, str, int], str]
"""(kernel, output, first row, lanes) → what sums begin with."""
Put = Callable[[Kernel, Sequence[str], str, str, int], None]
"""(kernel, the sums of a tile's outputs, first output, first row, lanes): writes them."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x `[M, K]`, weight `[N, K]`, bias `[N]` → `[M, N]`, as torch's `linear`; few rows by the kernel above."""
    if not _applies(x, weight):
        return general(x, weight, bias)
    (rows, inner), outputs = x.shape, len(weight)
    lanes = 8 if rows <= 8 else 16
    columns = in_tiles(pad(x, (0, 0, 0, -rows % lanes)), lanes)
    padded = rows + -rows % lanes
    y = x.new_empty(padded, outputs)
    tile, multiply = TILES[lanes], _products()[lanes]
    places = columns.data_ptr(), weight.data_ptr(), 0, y.data_ptr()
    multiply(*places, inner, padded, outputs, 0, outputs - outputs % tile)
    if outputs % tile:  # the last ones are the end of a tile that overlaps the one before
        multiply(*places, inner, padded, outputs, outputs - tile, outputs)
    return y[:rows] if bias is None else y[:rows].add_(bias)


def in_tiles(x: Tensor, lanes: int) -> Tensor:
    """`[M, K]` → `[M / lanes, K, lanes]`."""
    return x.unflatten(0, (-1, lanes)).transpose(1, 2).contiguous()


def _applies(x: Tensor, weight: Tensor) -> bool:
    """Whether the kernel computes this product."""
    return (
        x.dim() == weight.dim() == 2
        and LEAST_ROWS <= len(x) <= MOST_ROWS
        and x.shape[1] == weight.shape[1]
        and x.shape[1] % UNROLL == 0
        and len(weight) >= max(TILES.values())
        and weight.is_contiguous()
        and serves(x, weight)
    )


@once
def _products() -> dict[int, Callable[..., None]]:
    """Rows of a tile → kernel."""
    return dict(
        zip(TILES, compiled(*(product(f"rows_{lanes}", lanes, _zero, _put_rows) for lanes in TILES)), strict=True)
    )


def product(name: str, lanes: int, begin: Begin, put: Put, *, tile: int | None = None) -> Kernel:
    """name(x `[M / lanes, K, lanes]`, w `[N, K]`, bias, y, K, M, N, first, end): outputs first to end of begin + W x.

    They are whole tiles of so many outputs, TILES[lanes] if left out. The weights of a tile's outputs are fetched while
    those before them are multiplied, and stay in the cache until they have met all rows.
    """
    kernel = Kernel(name, ("x", "w", "bias", "y"), ("K", "M", "N", "first", "end"))
    outs = range(tile or TILES[lanes])
    totals = [kernel.slot(vector(lanes)) for _ in outs]
    ahead = kernel.times("%K", len(outs))
    with kernel.loop("%first", "%end", len(outs)) as n:
        weights = [kernel.at("%w", kernel.times(kernel.sum(n, j), "%K")) for j in outs]
        with kernel.loop(0, "%M", lanes) as m:
            for j, total in enumerate(totals):
                kernel.store(begin(kernel, kernel.sum(n, j), m, lanes), total, lanes)
            rows = kernel.at("%x", kernel.times(m, "%K"))
            multiply(kernel, rows, lanes, weights, "%K", totals, lanes, ahead=ahead)
            put(kernel, [kernel.load(total, lanes) for total in totals], n, m, lanes)
    return kernel


def _zero(kernel: Kernel, n: str, m: str, lanes: int) -> str:
    return "zeroinitializer"


def _put_rows(kernel: Kernel, totals: Sequence[str], n: str, m: str, lanes: int) -> None:
    """Into y `[M, N]`."""
    corner = kernel.at(kernel.at("%y", kernel.times(m, "%N")), n)
    for r in range(lanes):
        row = kernel.at(corner, kernel.times("%N", r))
        for j, total in enumerate(totals):
            value = kernel.let(f"extractelement {vector(lanes)} {total}, i32 {r}")
            kernel.store(value, kernel.at(row, j))


def multiply(
    kernel: Kernel,
    x: str,
    stride: str | int,
    weights: Sequence[str],
    count: str,
    totals: Sequence[str],
    lanes: int,
    *,
    step: str | int = 1,
    ahead: str | None = None,
) -> None:
    """totals[j] += Σ_k x[k · stride] · weights[j][k · step], k below count, a multiple of UNROLL.

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
