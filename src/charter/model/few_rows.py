"""y = W x for the few rows of a decoding step, on one core of a CPU: compiled here, for the machine at hand.

    y[m, n] = Σ_k x[m, k] · W[n, k]          k in order, one accumulator for each (m, n)

A general matrix product packs W before it multiplies, which pays only where W meets many rows. Here the rows are the
lanes of a vector: a tile of 16 rows and 4 outputs lives in registers, each weight is read once, where it lies, and
broadcast. Nothing is packed, so nothing has to be packed again after an update, and no weight is held twice.
Measured on two AVX2 cores with SmolLM2-135M, per core: 16 rows 34 → 60 GFLOP/s, 32 rows 45 → 62 (docs/performance.md).

What a row gives does not depend on the other rows. The kernels are LLVM IR, made by `_kernel`, compiled once
per process in about a tenth of a second.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear as general

LEAST_ROWS, MOST_ROWS = 2, 64
"""Below, torch has a product of a matrix and a vector; above, packing pays."""
_TILES = {8: 8, 16: 4}
"""Rows of a tile → outputs of a tile: as many accumulators as an AVX2 core's registers hold."""
_UNROLL = 4
_compiling = Lock()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x `[M, K]`, weight `[N, K]`, bias `[N]` → `[M, N]`, as torch's `linear`; few rows by the kernel above."""
    if not _applies(x, weight):
        return general(x, weight, bias)
    (rows, inner), outputs = x.shape, len(weight)
    lanes = 8 if rows <= 8 else 16
    padded = -(-rows // lanes) * lanes
    lying = x.new_zeros(inner, padded) if padded > rows else x.new_empty(inner, padded)
    lying[:, :rows] = x.T
    y = x.new_empty(padded, outputs)
    tile, multiply = _TILES[lanes], _kernels()[lanes]
    parts = [(0, outputs - outputs % tile)]
    if outputs % tile:  # the last ones are the end of a tile that overlaps the one before
        parts.append((outputs - tile, tile))
    for first, count in parts:
        at = x.element_size() * first
        multiply(lying.data_ptr(), weight.data_ptr() + at * inner, y.data_ptr() + at, inner, padded, outputs, count)
    return y[:rows] if bias is None else y[:rows].add_(bias)


def _applies(x: Tensor, weight: Tensor) -> bool:
    """Whether the kernel computes this product. Where several cores share one, torch's own is as fast."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and LEAST_ROWS <= len(x) <= MOST_ROWS
        and x.shape[1] % _UNROLL == 0
        and len(weight) >= max(_TILES.values())
        and weight.is_contiguous()
        and not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
        and not torch.is_autocast_enabled("cpu")
        and torch.get_num_threads() <= 2
    )


@cache
def _compiled() -> tuple[Any, dict[int, Callable[..., None]]]:
    """The engine, which owns the machine code, and the function of each number of lanes."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    try:
        features = llvm.get_host_cpu_features().flatten()
    except RuntimeError:  # not told on every system; the CPU's name implies most
        features = ""
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=3
    )
    source = "\n".join([_DECLARED, *(_kernel(lanes, outputs) for lanes, outputs in _TILES.items())])
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(source), machine)
    engine.finalize_object()
    signature = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 4)  # runs without Python's lock
    return engine, {lanes: signature(engine.get_function_address(f"rows_{lanes}")) for lanes in _TILES}


def _kernels() -> dict[int, Callable[..., None]]:
    with _compiling:
        return _compiled()[1]


_DECLARED = "\n".join(
    [
        "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)",
        *(f"declare <{n} x float> @llvm.fmuladd.v{n}f32(<{n} x float>, <{n} x float>, <{n} x float>)" for n in _TILES),
    ]
)


def _kernel(lanes: int, outputs: int) -> str:
    """rows_{lanes}(x `[K, M]`, w `[N, K]`, y `[M, N]`, K, M, N, n_end): y[:, :n_end], tile by tile.

    for n in 0, outputs, … n_end:            the weights of these outputs stay in the cache for all rows
        for m in 0, lanes, … M:
            for k in 0 … K:                  unrolled; the next outputs' weights are fetched meanwhile
                acc[j] += x[k, m : m + lanes] · w[n + j, k]
            y[m : m + lanes, n + j] = acc[j]
    """
    vector, outs, steps = f"<{lanes} x float>", range(outputs), range(_UNROLL)
    text = [
        f"define void @rows_{lanes}(ptr noalias %x, ptr noalias %w, ptr noalias %y,"
        " i64 %K, i64 %M, i64 %N, i64 %end) {",
        f"entry:\n %ahead = mul i64 %K, {outputs}\n br label %over_n",
        "over_n:\n %n = phi i64 [0, %entry], [%n_next, %end_m]",
        *(
            f" %n{j} = add i64 %n, {j}\n %at{j} = mul i64 %n{j}, %K\n %w{j} = getelementptr float, ptr %w, i64 %at{j}"
            for j in outs
        ),
        " br label %over_m",
        "over_m:\n %m = phi i64 [0, %over_n], [%m_next, %end_k]\n %xm = getelementptr float, ptr %x, i64 %m",
        " br label %over_k",
        "over_k:\n %k = phi i64 [0, %over_m], [%k_next, %over_k]",
        *(f" %a{j}_0 = phi {vector} [zeroinitializer, %over_m], [%a{j}_{_UNROLL}, %over_k]" for j in outs),
    ]
    for u in steps:
        text += [
            f" %k{u} = add i64 %k, {u}\n %row{u} = mul i64 %k{u}, %M\n"
            f" %px{u} = getelementptr float, ptr %xm, i64 %row{u}\n %x{u} = load {vector}, ptr %px{u}, align 4"
        ]
        text += [
            f" %p{j}_{u} = getelementptr float, ptr %w{j}, i64 %k{u}\n %s{j}_{u} = load float, ptr %p{j}_{u}, align 4\n"
            f" %i{j}_{u} = insertelement {vector} poison, float %s{j}_{u}, i32 0\n"
            f" %b{j}_{u} = shufflevector {vector} %i{j}_{u}, {vector} poison, <{lanes} x i32> zeroinitializer\n"
            f" %a{j}_{u + 1} = call {vector} @llvm.fmuladd.v{lanes}f32("
            f"{vector} %x{u}, {vector} %b{j}_{u}, {vector} %a{j}_{u})"
            for j in outs
        ]
    text += [" %soon = add i64 %k, %ahead"]
    text += [
        f" %f{j} = getelementptr float, ptr %w{j}, i64 %soon\n"
        f" call void @llvm.prefetch.p0(ptr %f{j}, i32 0, i32 3, i32 1)"
        for j in outs
    ]
    text += [
        f" %k_next = add i64 %k, {_UNROLL}\n %more_k = icmp slt i64 %k_next, %K",
        " br i1 %more_k, label %over_k, label %end_k",
        "end_k:\n %ny = mul i64 %m, %N\n %y_m = getelementptr float, ptr %y, i64 %ny",
        " %y_mn = getelementptr float, ptr %y_m, i64 %n",
    ]
    for r in range(lanes):
        text += [f" %down{r} = mul i64 %N, {r}\n %y{r} = getelementptr float, ptr %y_mn, i64 %down{r}"]
        text += [
            f" %e{r}_{j} = extractelement {vector} %a{j}_{_UNROLL}, i32 {r}\n"
            f" %q{r}_{j} = getelementptr float, ptr %y{r}, i64 {j}\n store float %e{r}_{j}, ptr %q{r}_{j}, align 4"
            for j in outs
        ]
    text += [
        f" %m_next = add i64 %m, {lanes}\n %more_m = icmp slt i64 %m_next, %M",
        " br i1 %more_m, label %over_m, label %end_m",
        f"end_m:\n %n_next = add i64 %n, {outputs}\n %more_n = icmp slt i64 %n_next, %end",
        " br i1 %more_n, label %over_n, label %done",
        "done:\n ret void\n}",
    ]
    return "\n".join(text)
