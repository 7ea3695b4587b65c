"""Kernels that are compiled here: what is written is what is computed, and what happens where none can be."""

from __future__ import annotations

import sys

import pytest
import torch

from charter.model import few_rows, native
from charter.model.native import Kernel, compiled, serves


def test_a_kernel_by_hand() -> None:
    kernel = Kernel("triangle", ("out",), ("n",))
    place = kernel.slot("i64")
    kernel.do(f"store i64 0, ptr {place}")
    with kernel.loop(0, "%n") as i, kernel.loop(i, "%n", 2) as j:
        before = kernel.let(f"load i64, ptr {place}")
        kernel.do(f"store i64 {kernel.sum(before, kernel.times(i, j), 1)}, ptr {place}")
    whole = kernel.let(f"load i64, ptr {place}")
    kernel.store(kernel.let(f"sitofp i64 {whole} to float"), "%out")
    out = torch.zeros(1)
    run = compiled(kernel)[0]
    for n in (0, 1, 5):
        run(out.data_ptr(), n)
        assert out.item() == sum(i * j + 1 for i in range(n) for j in range(i, n, 2))


def test_the_exponential_is_exact_to_two_units_in_the_last_place() -> None:
    kernel = Kernel("exponentials", ("x", "y"), ("n",))
    with kernel.loop(0, "%n", 8) as i:
        kernel.store(kernel.exponential(kernel.load(kernel.at("%x", i), 8), 8), kernel.at("%y", i), 8)
    x = torch.cat([torch.linspace(-87, 88, 200_000), torch.linspace(-1, 1, 50_000), torch.zeros(8)])
    y = torch.empty_like(x)
    compiled(kernel)[0](x.data_ptr(), y.data_ptr(), len(x))
    exact = x.double().exp()
    assert ((y.double() - exact).abs() / exact).max() < 2 * 2**-23
    assert y[-1] == 1
    odd = torch.tensor([float("-inf"), -1000.0, float("nan"), 1000.0, -87.0, 88.0, 0.0, -0.0])
    found = torch.empty(8)
    compiled(kernel)[0](odd.data_ptr(), found.data_ptr(), 8)
    assert found[0] == found[1] == found[4] < 2e-38
    assert found[2].isnan()
    assert found[3] == found[5]
    assert found[6] == found[7] == 1


def test_text_that_is_no_function_is_refused() -> None:
    kernel = Kernel("wrong", ("x",))
    kernel.do("no instruction")
    with pytest.raises(RuntimeError, match="expected"):
        compiled(kernel)


@pytest.fixture
def fresh():
    native._compiles.cache_clear()
    with torch.inference_mode():
        yield
    native._compiles.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_without_llvm_torch_does_it_and_it_is_said_once(monkeypatch, recwarn) -> None:
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    x, weight = torch.randn(4, 32), torch.randn(48, 32)
    for _ in range(2):
        assert torch.equal(few_rows.linear(x, weight), torch.nn.functional.linear(x, weight))
    assert [str(warning.message) for warning in recwarn] == [
        "decoding goes through torch alone, which is slower: no kernels here (ModuleNotFoundError: import of "
        "llvmlite.binding halted; None in sys.modules)"
    ]


@pytest.mark.usefixtures("fresh")
def test_kernels_that_compute_something_else_are_not_used(monkeypatch) -> None:
    monkeypatch.setattr(native, "compiled", lambda *_: [lambda *_: None])
    with pytest.warns(RuntimeWarning, match="computed something else"):
        assert not serves(torch.ones(1))
