"""A micro-batch on its way to the device: which tokens have loss, and that nobody waits for the device meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from charter.learner import local
from charter.learner.judging import Judge
from charter.learner.local import LocalLearner
from charter.learner.packing import MicroBatch
from charter.learner.plan import Piece
from charter.model.sending import send
from charter.recipe import GrpoTable, OptimizerTable
from charter.train.grpo import GrpoObjective
from charter.types import Batch, Branch, Totals, Tree

CPU = torch.device("cpu")


def branch(tokens: str, mask: str, **given: Any) -> Branch:
    """Letters are tokens; 1s of the mask have loss."""
    return Branch(tokens=tuple(map(ord, tokens)), mask=tuple(bit == "1" for bit in mask), **given)


PIECES = [
    Piece(0, Tree(prefix=(5, 6), branches=(branch("abc", "011"), branch("d", "1")))),
    Piece(3, Tree(prefix=(7, 8, 9), branches=(branch("ef", "10"), branch("ghij", "0110")))),
]
# the row: 5 6 | a b | (d is only predicted) | 7 8 9 | e | g h i


def test_the_tokens_with_loss_by_hand() -> None:
    micro = MicroBatch.of(PIECES, CPU)
    assert micro.mask.int().tolist() == [[0, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0]]
    assert micro.places.tolist() == [1, 2, 4, 8, 13, 14]
    assert [chr(t) for t in micro.targets.tolist()] == ["b", "c", "d", "e", "h", "i"]
    # each is predicted from the token before it: a, b, the end of its prefix (6, then 9), g, h
    row = micro.tokens[micro.source].tolist()
    assert row == [ord("a"), ord("b"), 6, 9, ord("g"), ord("h")]


def test_padded_puts_numbers_where_they_belong_and_takes_their_gradient_from_there() -> None:
    micro = MicroBatch.of(PIECES, CPU)
    numbers = torch.arange(1.0, 7.0, requires_grad=True)
    padded = micro.padded(numbers)
    assert padded.tolist() == [[0, 1, 2, 0], [3, 0, 0, 0], [4, 0, 0, 0], [0, 5, 6, 0]]
    (padded * torch.arange(16.0).view(4, 4)).sum().backward()
    assert numbers.grad is not None
    assert numbers.grad.tolist() == [1, 2, 4, 8, 13, 14]


def test_no_tokens_with_loss_are_no_places() -> None:
    micro = MicroBatch.of([Piece(0, Tree(prefix=(5,), branches=(branch("ab", "00"),)))], CPU)
    assert micro.source.tolist() == micro.targets.tolist() == []
    assert micro.padded(torch.zeros(0)).tolist() == [[0, 0]]


def test_cuda_is_sent_pinned_memory_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: asked.append("pinned") or self)
    monkeypatch.setattr(Tensor, "to", lambda self, *where, **how: asked.append((where, how)) or self)
    send(torch.zeros(1), "cuda:1")
    assert asked == ["pinned", (("cuda:1",), {"non_blocking": True})]
    asked.clear()
    send(torch.zeros(1), "cpu")
    assert asked == [(("cpu",), {})]


WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "masked_scatter_backward", "equal", "allclose", "unique")


class ReadBack(TorchDispatchMode):
    """Notes operations whose result the host must see: on CUDA it would wait there for all work before."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1]
        )
        if by_mask or name.strip("_").startswith(tuple(word.strip("_") for word in WAITING)):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Charter's own code moves between host and device, but by `send`."""
    seen: list[str] = []

    def noted(name: str, moves: Callable[..., bool], plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **named: Any) -> Any:
            caller = sys._getframe(1).f_globals["__name__"]
            if caller.startswith("charter.") and caller != "charter.model.sending" and moves(*words, **named):
                seen.append(f"{name} in {caller}")
            return plain(*words, **named)

        return call

    def to_device(_: Tensor, *words: Any, **named: Any) -> bool:
        return any(isinstance(word, torch.device | str) for word in (*words, *named.values()))

    monkeypatch.setattr(
        torch, "tensor", noted("tensor", lambda *_, device=None, **__: device is not None, torch.tensor)
    )
    monkeypatch.setattr(Tensor, "to", noted("to", to_device, Tensor.to))
    for name in ("cpu", "cuda", "tolist", "numpy"):
        monkeypatch.setattr(Tensor, name, noted(name, lambda *_, **__: True, getattr(Tensor, name)))
    return seen


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "grpo", [{}, {"kl_coef": 0.1, "mismatch": "truncate"}, {"loss": "gspo", "aggregation": "sequence"}], ids=str
)
def test_a_step_reads_nothing_back_before_its_last_backward(
    tiny_policy: Any, monkeypatch: pytest.MonkeyPatch, moved: list[str], grpo: dict[str, Any], compute: torch.dtype
) -> None:
    """As on CUDA, whose chunks of logits are not told the gradient in advance, and with one forward at a time."""
    policy, reading = tiny_policy("llama"), ReadBack()
    policy.compute = compute
    monkeypatch.setattr(Judge, "upstream", lambda self, *, critic: None)
    monkeypatch.setattr(local, "abreast", lambda *_: 1)
    monkeypatch.setattr(local, "opens_prefixes", lambda *_, **__: False)
    learner = LocalLearner(
        policy, OptimizerTable(), total_steps=2, microbatch_tokens=8, reference=tiny_policy("llama", seed=1)
    )
    trees = tuple(
        Tree(prefix=(5, 6, 7), branches=(
            branch("abc", "111", advantage=1.0, sampler_logprobs=(-5.0, -6.0, -5.5)),
            branch("de", "11", advantage=-1.0, sampler_logprobs=(-4.0, -6.0)),
        )) for _ in range(3)
    )  # fmt: skip
    totals = Totals(tokens=15, sequences=6, completions=6, prompts=3)
    seen: list[list[str]] = []
    pooled = local.Pooled.add

    def add(self: Any, loss: Any) -> None:
        seen.append(reading.seen + moved)
        pooled(self, loss)

    monkeypatch.setattr(local.Pooled, "add", add)
    objective = GrpoObjective(config=GrpoTable(**grpo), max_new_tokens=4, temperature=1.0)
    with reading:
        learner.step(Batch(trees=trees, totals=totals), objective)
    assert len(seen) == 3, "each tree is a micro-batch of its own"
    assert seen[0] == []
    assert reading.seen, "the metrics are read in the end, so the mode sees what is read"
