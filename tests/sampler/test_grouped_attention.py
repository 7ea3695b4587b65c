"""The products around the softmax of decoding, by kernels and batched, against sums written out in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from charter.sampler import grouped_attention
from charter.sampler.grouped_attention import mixed, scores


@pytest.fixture(autouse=True)
def as_it_decodes():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(before)


def written_out(query: Tensor, prompt_keys: Tensor, own_keys: Tensor) -> Tensor:
    """Every score by itself; query `[R, H, D]`."""
    groups, kv_heads, _, _ = prompt_keys.shape
    each, share = len(query) // groups, query.shape[1] // kv_heads
    rows = []
    for r, row in enumerate(query.double()):
        keys = torch.cat([prompt_keys[r // each], own_keys[r]], dim=1).double()  # [Hkv, P + t, D]
        rows.append(torch.stack([keys[h // share] @ row[h] for h in range(len(row))]))
    return torch.stack(rows).view(groups, each, kv_heads, share, -1)


def written_out_mix(weights: Tensor, prompt_values: Tensor, own_values: Tensor) -> Tensor:
    _, each, kv_heads, share, _ = weights.shape
    found = []
    for r, row in enumerate(weights.double().flatten(0, 1)):
        values = torch.cat([prompt_values[r // each], own_values[r]], dim=1).double()
        found.append(torch.stack([row[h // share, h % share] @ values[h // share] for h in range(kv_heads * share)]))
    return torch.stack(found)


@settings(deadline=None, max_examples=60)
@given(
    groups=st.integers(1, 3),
    each=st.integers(1, 4),
    kv_heads=st.integers(1, 3),
    share=st.integers(1, 3),
    prompt=st.integers(1, 11),
    length=st.integers(1, 9),
    size=st.sampled_from([8, 16, 64]),  # 8 is no whole vector: batched
    seed=st.integers(0, 99),
)
def test_both_products(
    groups: int, each: int, kv_heads: int, share: int, prompt: int, length: int, size: int, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    rows, capacity = groups * each, length + 3
    # as `_rotate` leaves it: heads of queries and keys in one row
    query = drawn(rows, kv_heads * share + 2, size)[:, : kv_heads * share]
    prompt_keys, prompt_values = drawn(groups, kv_heads, prompt, size), drawn(groups, kv_heads, prompt, size)
    store = drawn(2, rows, kv_heads, capacity, size)
    store[:, :, :, length:] = float("nan")  # cells that are not written yet
    own_keys, own_values = store[:, :, :, :length]
    assert grouped_attention._applies(query, prompt_keys, own_keys) == (size % 16 == 0)
    found = scores(query, prompt_keys, own_keys)
    assert found.shape == (groups, each, kv_heads, share, prompt + length)
    torch.testing.assert_close(found.double(), written_out(query, prompt_keys, own_keys), atol=size * 1e-6, rtol=1e-5)
    weights = torch.softmax(found, -1)
    assert grouped_attention._applies(weights, prompt_values, own_values) == (size % 16 == 0)
    torch.testing.assert_close(
        mixed(weights, prompt_values, own_values).double(),
        written_out_mix(weights, prompt_values, own_values),
        atol=1e-5,
        rtol=1e-5,
    )


def test_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    kernels = grouped_attention._kernels()

    def noting(kernel):
        return lambda *words: (ran.append(kernels.index(kernel)), kernel(*words))[1]

    monkeypatch.setattr(grouped_attention, "_kernels", lambda: [noting(kernel) for kernel in kernels])
    ones = torch.ones(1, 1, 16)
    prompt_keys = torch.stack([1.0 * ones[0], 2 * ones[0]], dim=1)[None]  # `[1, 1, 2, 16]`: 16 and 32
    own_keys = (-1.0 * ones)[:, None]  # −16
    assert scores(ones, prompt_keys, own_keys).tolist() == [[[[[16.0, 32.0, -16.0]]]]]
    weights = torch.tensor([0.5, 0.25, 0.25]).view(1, 1, 1, 1, 3)
    # 0.5 · 1 + 0.25 · 2 − 0.25 · 1
    assert mixed(weights, prompt_keys, own_keys).tolist() == [[[0.75] * 16]]
    assert ran == [0, 0, 1, 1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_numbers_are_batched(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped_attention, "_kernels", lambda: pytest.fail("no kernel has these numbers"))
    query, keys = torch.ones(2, 1, 16, dtype=dtype), torch.ones(1, 1, 3, 16, dtype=dtype)
    own = torch.ones(2, 1, 1, 16, dtype=dtype)
    found = scores(query, keys, own)
    assert found.flatten().tolist() == [16.0] * 8
    assert mixed(found, keys, own).flatten().tolist() == [64.0] * 32


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    keys = torch.ones(1, 1, 3, 16)
    with pytest.raises(ValueError, match="do not make"):
        scores(torch.ones(2, 1, 32), keys, torch.ones(2, 1, 1, 16))
    with pytest.raises(ValueError, match="do not make"):
        mixed(torch.ones(1, 2, 1, 1, 4), keys, torch.ones(2, 1, 2, 16))


def test_learning_is_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped_attention, "_kernels", lambda: pytest.fail("a kernel has no gradient"))
    with torch.inference_mode(mode=False):
        query = torch.ones(2, 1, 16, requires_grad=True)
        (gradient,) = torch.autograd.grad(scores(query, torch.ones(1, 1, 3, 16), torch.ones(2, 1, 1, 16)).sum(), query)
    assert gradient.flatten().tolist() == [4.0] * 32
