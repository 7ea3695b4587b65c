"""Products of few rows: against float64, row by row, and where they are left to torch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from charter.model import few_rows
from charter.model.few_rows import LEAST_ROWS, MOST_ROWS, linear
from charter.model.native import once


@pytest.fixture(autouse=True)
def as_it_decodes():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(before)


@pytest.fixture
def called(monkeypatch) -> list[int]:
    """Lanes of each kernel that ran."""
    ran: list[int] = []
    kernels = few_rows._products()

    def noting(lanes: int):
        def run(*words: int) -> None:
            ran.append(lanes)
            kernels[lanes](*words)

        return run

    monkeypatch.setattr(few_rows, "_products", lambda: {lanes: noting(lanes) for lanes in kernels})
    return ran


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(LEAST_ROWS, MOST_ROWS),
    inner=st.integers(1, 20).map(lambda n: 8 * n),
    outputs=st.integers(8, 90),
    biased=st.booleans(),
    seed=st.integers(0, 99),
)
def test_it_is_the_product(rows: int, inner: int, outputs: int, biased: bool, seed: int) -> None:
    x, weight, bias = drawn(rows, inner, seed=seed), drawn(outputs, inner, seed=seed + 1), drawn(outputs)
    assert few_rows._applies(x, weight)
    found = linear(x, weight, bias if biased else None)
    exact = x.double() @ weight.double().T + (bias.double() if biased else 0)
    assert found.shape == exact.shape
    # n terms added one after another err by at most n units in the last place of the sum of their magnitudes
    bound = (x.double().abs() @ weight.double().abs().T + 4) * inner * 2**-24
    assert ((found.double() - exact).abs() <= bound).all()


def test_every_entry_by_hand(called: list[int]) -> None:
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0, 0, 0, 0, 1], [0.0, -1.0, 0.0, 0.5, 0, 0, 0, 0]])
    weight = torch.arange(72.0).view(9, 8)  # the ninth output is no multiple of a tile
    by_hand = [[11 * 8 * n + 20 + 7 for n in range(9)], [-4 * n + 0.5 for n in range(9)]]
    assert linear(x, weight).tolist() == by_hand
    assert called == [8, 8]


@pytest.mark.parametrize("rows", [2, 7, 8, 9, 16, 33, 64])
def test_a_row_does_not_depend_on_the_others(rows: int) -> None:
    x, weight = drawn(64, 96), drawn(53, 96)
    everyone = linear(x, weight)
    assert torch.equal(linear(x[:rows], weight), everyone[:rows])
    x[0] = float("nan")
    beside = linear(x, weight)
    assert beside[0].isnan().all()
    assert torch.equal(beside[1:], everyone[1:])


def test_which_kernel_runs(called: list[int]) -> None:
    weight = drawn(48, 32)
    for rows in (1, 2, 8, 9, 64, 65):
        linear(drawn(rows, 32), weight)
    assert called == [8, 8, 16, 16]  # one row, and more than 64, are torch's


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (drawn(4, 32).double(), drawn(48, 32).double()),
        (drawn(4, 28), drawn(48, 28)),
        (drawn(4, 32), drawn(32, 48).T),
        (drawn(4, 32), drawn(3, 32)),
        (drawn(2, 4, 32), drawn(48, 32)),
    ],
)
def test_what_is_left_to_torch(x: Tensor, weight: Tensor, called: list[int]) -> None:
    assert torch.equal(linear(x, weight), torch.nn.functional.linear(x, weight))
    assert called == []


def test_autocast_learning_and_many_threads_are_left_to_torch(called: list[int]) -> None:
    with torch.inference_mode(mode=False), torch.no_grad():
        linear(drawn(4, 32), drawn(48, 32))
    x, weight = drawn(4, 32), drawn(48, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16
    torch.set_num_threads(3)
    linear(x, weight)
    assert called == []


def test_gradients_reach_what_asks_for_them() -> None:
    with torch.inference_mode(mode=False):
        x, weight = drawn(4, 32).requires_grad_(), drawn(48, 32).requires_grad_()
        (gradient,) = torch.autograd.grad(linear(x, weight).sum(), x)
        assert torch.allclose(gradient, weight.detach().sum(0).expand(4, -1), atol=1e-5)


def test_widths_that_do_not_fit_are_torchs_to_refuse() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        linear(drawn(4, 32), drawn(48, 64))


def test_inputs_that_are_not_contiguous(called: list[int]) -> None:
    wide, weight = drawn(12, 64), drawn(48, 32)
    assert torch.equal(linear(wide[::2, 32:], weight), linear(wide[::2, 32:].contiguous(), weight))
    assert called == [8, 8]


def test_two_threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    xs, weight = [drawn(24, 512, seed=s) for s in range(8)], drawn(640, 512)
    alone = [linear(x, weight) for x in xs]

    made: list[None] = []

    def products() -> list[Callable[..., None]]:
        made.append(None)
        return few_rows.compiled(
            *(few_rows.product(f"rows_{n}", n, few_rows._zero, few_rows._put_rows) for n in (8, 16))
        )

    fresh = once(lambda: dict(zip((8, 16), products(), strict=True)))
    monkeypatch.setattr(few_rows, "_products", fresh)  # both find it missing

    def again(x: Tensor) -> Tensor:
        torch.set_num_threads(1)
        with torch.inference_mode():
            assert few_rows._applies(x, weight)
            return linear(x, weight)

    with ThreadPoolExecutor(2) as pool:
        assert all(map(torch.equal, pool.map(again, xs * 5), alone * 5))
    assert len(made) == 1
