"""A decoding step of a Llama-shaped model by kernels, from the embedding to the last norm, on one core of a CPU.

Rows are the lanes of vectors throughout: what torch holds as `[M, K]` lies here as columns, `[K, M]`, so that norms,
rotations, softmaxes and products need no transposing in between and a layer is nine kernels. In torch a layer is some
forty operations, and at 16 rows they took a third of the time (docs/performance.md).

More rows than a product's tile has are several such columns, one behind the other: `[tiles, K, M]`. A product takes
them all, each weight once; everything else takes one tile.

    x ← x + W_o · attend(rope(W_qkv · norm(x))),    x ← x + W_d · (silu(W_g · n) ⊙ W_u · n)

Attention looks at a prompt, shared by several lanes, and at a lane's own tokens; one softmax over both. Not here: what
is in the caches, and when (`charter.sampler.lanes`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from charter.model.few_rows import TILES, UNROLL, Begin, multiply, product
from charter.model.native import Kernel, compiled, once, vector

LANES = 8
"""Rows that all kernels but the products take at once."""
assert LANES % UNROLL == 0  # sums over sizes that are multiples of LANES go by so many terms


def norm() -> Kernel:
    """y `[D, M]` = x · w / sqrt(mean(x²) + eps); numbers: 1/D and eps."""
    k = Kernel("norm", ("x", "w", "numbers", "y"), ("D", "M"))
    share, eps = (k.broadcast(k.load(k.at("%numbers", i)), LANES) for i in (0, 1))
    total = k.slot(vector(LANES))
    with k.loop(0, "%M", LANES) as m:
        k.store("zeroinitializer", total, LANES)
        with k.loop(0, "%D") as d:
            x = k.load(k.at(k.at("%x", m), k.times(d, "%M")), LANES)
            k.add_product(total, x, x, LANES)
        mean = k.function("fmuladd", k.load(total, LANES), share, eps, lanes=LANES)
        root = k.function("sqrt", mean, lanes=LANES)
        inverse = k.arithmetic("fdiv", k.number(1, LANES), root, LANES)
        with k.loop(0, "%D") as d:
            at = k.sum(m, k.times(d, "%M"))
            scale = k.broadcast(k.load(k.at("%w", d)), LANES)
            x = k.arithmetic("fmul", k.load(k.at("%x", at), LANES), inverse, LANES)
            k.store(k.arithmetic("fmul", x, scale, LANES), k.at("%y", at), LANES)
    return k


def rotation() -> Kernel:
    """Rotary positions on the first heads of y `[(heads) · 2 · half, M]`, in place: x · cos + (−x₂, x₁) · sin.

    cos, sin `[2 · half, M]`. The rows behind queries (keys, turned, and values) go into the cache's cell.
    """
    k = Kernel("rotation", ("y", "cos", "sin", "cell"), ("heads", "half", "M", "queries", "N"))
    with k.loop(0, "%heads") as head, k.loop(0, "%half") as j:
        first = k.times(k.sum(k.times(k.times(head, 2), "%half"), j), "%M")
        angle, apart = k.times(j, "%M"), k.times("%half", "%M")
        with k.loop(0, "%M", LANES) as m:
            places = [k.sum(first, m), k.sum(first, apart, m)]
            angles = [k.sum(angle, m), k.sum(angle, apart, m)]
            x = [k.load(k.at("%y", place), LANES) for place in places]
            cos, sin = ([k.load(k.at(f"%{of}", at), LANES) for at in angles] for of in ("cos", "sin"))
            crossed = [k.arithmetic("fmul", x[1 - i], sin[i], LANES) for i in (0, 1)]
            straight = [k.arithmetic("fmul", x[i], cos[i], LANES) for i in (0, 1)]
            k.store(k.arithmetic("fsub", straight[0], crossed[0], LANES), k.at("%y", places[0]), LANES)
            k.store(k.arithmetic("fadd", straight[1], crossed[1], LANES), k.at("%y", places[1]), LANES)
    begin, end = k.times("%queries", "%M"), k.times("%N", "%M")
    with k.loop(0, k.let(f"sub i64 {end}, {begin}"), LANES) as i:
        k.store(k.load(k.at("%y", k.sum(begin, i)), LANES), k.at("%cell", i), LANES)
    return k


def gated() -> Kernel:
    """y `[I, M]` = silu(x₁) ⊙ x₂ of x `[2 I, M]`; size: I · M."""
    k = Kernel("gated", ("x", "y"), ("size",))
    with k.loop(0, "%size", LANES) as i:
        gate, up = k.load(k.at("%x", i), LANES), k.load(k.at("%x", k.sum(i, "%size")), LANES)
        negative = k.let(f"fneg {vector(LANES)} {gate}")
        below = k.arithmetic("fadd", k.number(1, LANES), k.exponential(negative, LANES), LANES)
        k.store(k.arithmetic("fmul", k.arithmetic("fdiv", gate, below, LANES), up, LANES), k.at("%y", i), LANES)
    return k


def attention() -> Kernel:
    """out `[H · D, M]`: queries over the prompts of their lanes and their own keys.

    y: queries `[H · D, M]`. own: cells `[T, 2 · Hkv · D, M]`, keys before values. keys, values: prompts
    `[groups, Hkv, P, D]`, zeros behind their ends, P a multiple of 8. scores: room. segments `[S, 2]`: which
    prompts the lanes of a block of 8 have, as (group, length); those of block b are blocks[b] to blocks[b + 1]. masks
    `[S, 8]`: 1 for lanes of that group, else 0. numbers: the scale of the scores.
    """
    k = Kernel(
        "attention",
        ("y", "own", "keys", "values", "scores", "out", "blocks", "segments", "masks", "numbers"),
        ("heads", "share", "D", "M", "P", "T"),
    )
    scale = k.broadcast(k.load("%numbers"), LANES)
    totals = [k.slot(vector(LANES)) for _ in range(LANES)]
    best, whole, filled = k.slot(vector(LANES)), k.slot(vector(LANES)), k.slot("i64")
    never, zeros = k.number(-math.inf, LANES), "zeroinitializer"
    kv_heads = k.let("sdiv i64 %heads, %share")
    width = k.times(kv_heads, "%D")
    cell = k.times(k.times(width, 2), "%M")

    def score(i: str) -> str:
        return k.at("%scores", k.times(i, LANES))

    def segments(block: str) -> Iterator[tuple[str, str, str, str]]:
        """Of each segment: its number, length, prompt's place among keys and values, place among the scores."""
        k.do(f"store i64 0, ptr {filled}")
        begin, end = k.whole("%blocks", block), k.whole("%blocks", k.sum(block, 1))
        with k.loop(begin, end) as s:
            group, length = (k.whole("%segments", k.sum(k.times(s, 2), i)) for i in (0, 1))
            prompt = k.times(k.times(k.sum(k.times(group, kv_heads), kv), "%P"), "%D")
            first = k.let(f"load i64, ptr {filled}")
            yield s, length, prompt, first
            k.do(f"store i64 {k.sum(first, padded(length))}, ptr {filled}")

    def padded(length: str) -> str:
        return k.let(f"and i64 {k.sum(length, LANES - 1)}, -{LANES}")

    with k.loop(0, "%heads") as head, k.loop(0, "%M", LANES) as m:
        kv, block = k.let(f"sdiv i64 {head}, %share"), k.let(f"sdiv i64 {m}, {LANES}")
        queries = k.at(k.at("%y", m), k.times(k.times(head, "%D"), "%M"))
        for s, length, prompt, first in segments(block):
            members = k.let(f"fcmp one {vector(LANES)} {k.load(k.at('%masks', k.times(s, LANES)), LANES)}, {zeros}")
            with k.loop(0, length, LANES) as p:
                for total in totals:
                    k.store(zeros, total, LANES)
                places = [k.sum(p, j) for j in range(LANES)]
                rows = [k.at("%keys", k.sum(prompt, k.times(place, "%D"))) for place in places]
                multiply(k, queries, "%M", rows, "%D", totals, LANES)
                for total, place in zip(totals, places, strict=True):
                    value = k.arithmetic("fmul", k.load(total, LANES), scale, LANES)
                    value = k.chosen(f"<{LANES} x i1> {members}", value, never, LANES)
                    value = k.chosen(f"i1 {k.let(f'icmp slt i64 {place}, {length}')}", value, never, LANES)
                    k.store(value, score(k.sum(first, place)), LANES)
        prompts = k.let(f"load i64, ptr {filled}")
        end = k.sum(prompts, "%T")
        mine = k.sum(k.times(k.times(kv, "%D"), "%M"), m)
        with k.loop(0, "%T") as t:
            for total in totals[:4]:
                k.store(zeros, total, LANES)
            keys = k.at("%own", k.sum(k.times(t, cell), mine))
            with k.loop(0, "%D", 4) as d:
                for j, total in enumerate(totals[:4]):
                    at = k.times(k.sum(d, j), "%M")
                    k.add_product(total, k.load(k.at(queries, at), LANES), k.load(k.at(keys, at), LANES), LANES)
            parts = [k.load(total, LANES) for total in totals[:4]]
            sums = [k.arithmetic("fadd", parts[i], parts[i + 2], LANES) for i in (0, 1)]
            value = k.arithmetic("fmul", k.arithmetic("fadd", sums[0], sums[1], LANES), scale, LANES)
            k.store(value, score(k.sum(prompts, t)), LANES)
        k.store(never, best, LANES)
        with k.loop(0, end) as i:
            k.store(k.function("maxnum", k.load(score(i), LANES), k.load(best, LANES), lanes=LANES), best, LANES)
        k.store(zeros, whole, LANES)
        largest = k.load(best, LANES)
        with k.loop(0, end) as i:
            weight = k.exponential(k.arithmetic("fsub", k.load(score(i), LANES), largest, LANES), LANES)
            k.store(weight, score(i), LANES)
            k.store(k.arithmetic("fadd", k.load(whole, LANES), weight, LANES), whole, LANES)
        share = k.arithmetic("fdiv", k.number(1, LANES), k.load(whole, LANES), LANES)
        with k.loop(0, "%D", LANES) as d:
            for total in totals:
                k.store(zeros, total, LANES)
            for _, length, prompt, first in segments(block):
                columns = [k.at("%values", k.sum(prompt, d, j)) for j in range(LANES)]
                multiply(k, score(first), str(LANES), columns, padded(length), totals, LANES, step="%D")
            with k.loop(0, "%T") as t:
                weight = k.load(score(k.sum(prompts, t)), LANES)
                values = k.at("%own", k.sum(k.times(t, cell), k.times(width, "%M"), mine))
                for j, total in enumerate(totals):
                    k.add_product(total, weight, k.load(k.at(values, k.times(k.sum(d, j), "%M")), LANES), LANES)
            for j, total in enumerate(totals):
                value = k.arithmetic("fmul", k.load(total, LANES), share, LANES)
                place = k.sum(k.times(k.sum(k.times(head, "%D"), d, j), "%M"), m)
                k.store(value, k.at("%out", place), LANES)
    return k


@once
def kernels() -> dict[str, Callable[..., None]]:
    """All of them by name. Products y `[M / lanes, N, lanes]` = W x, with a bias, or added to what y was: each as
    {name}_{lanes}, and as {name}_{lanes}_rest, by smaller tiles, where whole ones need not fill the outputs. All sizes
    are multiples of LANES (`charter.sampler.lanes.fit_for_lanes`)."""
    begins: dict[str, Begin] = {
        "plain": lambda k, n, m, lanes: "zeroinitializer",
        "biased": lambda k, n, m, lanes: k.broadcast(k.load(k.at("%bias", n)), lanes),
        "added": lambda k, n, m, lanes: k.load(_column(k, n, m, lanes), lanes),
    }
    written = [norm(), rotation(), gated(), attention()]
    for name, begin in begins.items():
        for lanes, tile in TILES.items():
            written.append(product(f"{name}_{lanes}", lanes, begin, _put_columns))
            if rest := math.gcd(tile, LANES) % tile:
                written.append(product(f"{name}_{lanes}_rest", lanes, begin, _put_columns, tile=rest))
    return dict(zip([kernel.name for kernel in written], compiled(*written), strict=True))


def _column(k: Kernel, n: str, m: str, lanes: int) -> str:
    """Where y `[M / lanes, N, lanes]` has output n of the tile whose first row is m."""
    return k.at("%y", k.sum(k.times(m, "%N"), k.times(n, lanes)))


def _put_columns(k: Kernel, totals: Sequence[str], n: str, m: str, lanes: int) -> None:
    for j, total in enumerate(totals):
        k.store(total, _column(k, k.sum(n, j), m, lanes), lanes)
