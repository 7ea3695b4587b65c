"""Chunked log-probabilities against torch's own, values and gradients, and that no [tokens, vocabulary] is made."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from charter.model import logprobs as module
from charter.model.logprobs import Head, chunk_rows, token_logprobs


def problem(rows=37, width=8, vocabulary=50, dtype=torch.float64, bias=True) -> Any:
    generator = torch.Generator().manual_seed(0)
    make = lambda *shape: torch.randn(*shape, generator=generator, dtype=dtype)  # noqa: E731
    hidden, weight = make(rows, width).requires_grad_(), make(vocabulary, width).requires_grad_()
    offset = make(vocabulary).requires_grad_() if bias else None
    return hidden, weight, offset, torch.randint(0, vocabulary, (rows,), generator=generator), make(rows)


@pytest.mark.parametrize(
    "shape", [{}, {"scale": 0.25}, {"softcap": 3.0}, {"scale": 2.0, "softcap": 5.0}], ids=lambda s: str(s) or "plain"
)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_values_entropy_and_gradients_equal_the_written_out_formula(monkeypatch, shape, temperature):
    monkeypatch.setattr(module, "chunk_rows", lambda *_: 5)  # 37 rows: seven whole chunks and a part
    hidden, weight, bias, targets, upstream = problem()
    ours, entropy = token_logprobs(hidden, Head(weight, bias, **shape), targets, temperature)
    (ours * upstream).sum().backward()
    got = [hidden.grad, weight.grad, bias.grad]

    other = [x.detach().clone().requires_grad_() for x in (hidden, weight, bias)]
    z = (other[0] @ other[1].T + other[2]) * shape.get("scale", 1.0)
    if "softcap" in shape:
        z = shape["softcap"] * torch.tanh(z / shape["softcap"])
    every = torch.log_softmax(z / temperature, -1)
    theirs = every[torch.arange(37), targets]
    (theirs * upstream).sum().backward()

    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(entropy, -(every.exp() * every).sum(-1).detach())
    assert not entropy.requires_grad
    for a, b in zip(got, other, strict=True):
        torch.testing.assert_close(a, b.grad)


def test_autograd_agrees_with_finite_differences():
    hidden, weight, bias, targets, _ = problem(rows=4, width=3, vocabulary=6)
    assert torch.autograd.gradcheck(
        lambda h, w, b: token_logprobs(h, Head(w, b, 1.5, 4.0), targets, 0.8)[0], (hidden, weight, bias)
    )


def test_the_largest_logits_tensor_is_a_chunk():
    """4,000 rows over 8,192 tokens would be 131 MB of logits; a chunk is at most 64 MB and half of it is not enough
    for all rows, so seeing one whole would show."""
    seen: list[int] = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.ndim == 2 and result.shape[1] == 8192:
                seen.append(result.shape[0])
            return result

    hidden = torch.randn(4000, 4)
    with Watch(), torch.no_grad():
        token_logprobs(hidden, Head(torch.randn(8192, 4)), torch.zeros(4000, dtype=torch.long))
    assert seen
    assert max(seen) == chunk_rows(8192) == 2048


def test_temperature_zero_has_no_logprobs():
    hidden, weight, _, targets, _ = problem()
    with pytest.raises(ValueError, match="above 0"):
        token_logprobs(hidden, Head(weight), targets, 0.0)


def test_bfloat16_autocast_recomputes_what_the_forward_saw():
    hidden, weight, _, targets, _ = problem(dtype=torch.float32, bias=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logprobs, _ = token_logprobs(hidden, Head(weight), targets)
    assert logprobs.dtype == torch.float32
    logprobs.sum().backward()
    exact = torch.log_softmax(hidden.detach().bfloat16().float() @ weight.detach().bfloat16().float().T, -1)
    torch.testing.assert_close(logprobs, exact[torch.arange(37), targets], rtol=2e-2, atol=5e-2)
    assert hidden.grad is not None
    assert torch.isfinite(hidden.grad).all()


def counted(monkeypatch: Any) -> list[int]:
    """Rows of every chunk of logits that is computed from now on."""
    rows: list[int] = []
    own = Head.logits

    def logits(self: Head, hidden: torch.Tensor) -> torch.Tensor:
        rows.append(len(hidden))
        return own(self, hidden)

    monkeypatch.setattr(Head, "logits", logits)
    return rows


@pytest.mark.parametrize("shape", [{}, {"scale": 2.0, "softcap": 5.0}], ids=lambda s: str(s) or "plain")
@pytest.mark.parametrize("right", [True, False], ids=["expected", "not expected"])
def test_a_gradient_that_was_expected_is_formed_in_the_forward(monkeypatch, shape, right):
    """loss = Σ u lp + lp², whose gradient u + 2 lp is known per token; and what a wrong announcement does."""
    monkeypatch.setattr(module, "chunk_rows", lambda *_: 5)

    def gradients(upstream):
        hidden, weight, bias, targets, u = problem()
        lp, _ = token_logprobs(hidden, Head(weight, bias, **shape), targets, 0.7, upstream=upstream)
        (u * lp + lp.square()).sum().backward()
        return hidden.grad, weight.grad, bias.grad

    u = problem()[-1]
    twice = counted(monkeypatch)
    expected = gradients(None)
    assert sum(twice) == 2 * 37
    once = counted(monkeypatch)
    found = gradients(lambda rows, lp: u[rows] + (2 if right else 1.9) * lp)
    assert sum(once) == (37 if right else 2 * 37)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_nothing_is_expected_where_no_gradient_is_asked():
    hidden, weight, bias, targets, _ = problem()

    def never(rows, lp):
        raise AssertionError("no gradient was asked for")

    with torch.no_grad():
        assert token_logprobs(hidden, Head(weight, bias), targets, upstream=never)[0].shape == (37,)
