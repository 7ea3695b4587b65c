"""The lean forward has the values and the gradients of the modules, and keeps less of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from charter.model.prefix import PackedTrees
from charter.types import Branch, Tree

FUSED = ("llama", "qwen2", "qwen3", "mistral")
TREES = [
    Tree(
        prefix=tuple(range(5, 16)),
        branches=(Branch(tokens=(7, 8, 9), mask=(True,) * 3), Branch(tokens=(3,), mask=(True,))),
    ),
    Tree(prefix=(40,), branches=(Branch(tokens=tuple(range(60, 69)), mask=(True,) * 9),)),
    Tree(prefix=(0, 41, 0), branches=(Branch(tokens=(0, 5), mask=(True,) * 2),)),  # 0 pads, and learns nothing as input
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def through_modules(policy: Any, packed: PackedTrees) -> torch.Tensor:
    return policy.module.base_model(
        input_ids=packed.tokens[None], position_ids=packed.positions[None], attention_mask=None, use_cache=False,
        packed_layout=packed.layout(),
    ).last_hidden_state[0]  # fmt: skip


def gradients(policy: Any, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
    weights = torch.linspace(-1, 1, hidden.numel(), dtype=hidden.dtype).view_as(hidden)
    policy.module.zero_grad()
    (hidden * weights).sum().backward()
    return {name: p.grad.clone() for name, p in policy.module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", FUSED)
def test_values_and_gradients_are_those_of_the_modules(tiny_policy: Any, family: str) -> None:
    policy = tiny_policy(family)
    with torch.no_grad():
        for parameter in policy.module.parameters():  # norms and biases begin as ones and zeros, which hide much
            parameter.add_(0.1 * torch.sin(torch.arange(parameter.numel()).view_as(parameter) * 0.7))
    packed = PackedTrees.pack(TREES)
    assert policy.lean
    lean = policy.hidden(packed.tokens, packed.positions, packed.layout())
    modules = through_modules(policy, packed)
    torch.testing.assert_close(lean, modules, atol=1e-5, rtol=1e-5)
    ours, theirs = gradients(policy, lean), gradients(policy, modules)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).abs().max() <= 2e-5 * gradient.abs().max(), name


def kept_bytes(hidden: Any, weights: set[int]) -> int:
    """Of different tensors that autograd keeps while `hidden` runs. weights: storages that do not count."""
    storages: dict[int, int] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        if (place := x.untyped_storage().data_ptr()) not in weights:
            storages[place] = x.untyped_storage().nbytes()
        kept.append(x)
        return x

    kept: list[torch.Tensor] = []  # so that no address is given twice
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        hidden()
    return sum(storages.values())


@pytest.mark.parametrize("family", FUSED)
def test_it_keeps_what_the_law_of_activations_says(tiny_policy: Any, family: str) -> None:
    from charter.learner import plan

    policy = tiny_policy(family)
    prefix = tuple(range(100))
    tree = Tree(prefix=prefix, branches=(Branch(tokens=prefix, mask=(True,) * 100),) * 4)
    packed = PackedTrees.pack([tree])
    policy.fused_forward()
    weights = {p.untyped_storage().data_ptr() for p in policy.module.parameters()}
    little = plan.keeps_little(policy)
    assert little == (family in ("llama", "qwen2"))  # the others have norms over each head, or a window
    lean = kept_bytes(lambda: policy.hidden(packed.tokens, packed.positions, packed.layout()), weights)
    modules = kept_bytes(lambda: through_modules(policy, packed), weights)
    assert lean < (0.65 if little else 0.85) * modules
    law = plan.activation_bytes_per_token(policy.config, lean=little)
    law *= plan._size(tree, plan.attention_share(policy))
    assert 0.55 * law < lean < 1.1 * law


@pytest.mark.parametrize("biases", [False, True])
def test_gradients_are_those_of_finite_differences(biases: bool) -> None:
    from charter.model.fused import Joined
    from charter.model.lean import _Mlp, _Projections, _Rotation

    generator = torch.Generator().manual_seed(0)

    def number(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    def joined(inputs: int, *outputs: int) -> Joined:
        parts = tuple(torch.nn.Linear(inputs, n, bias=biases, dtype=torch.float64) for n in outputs)
        bias = torch.cat([part.bias for part in parts]).detach() if biases else None
        return Joined(parts, torch.cat([part.weight for part in parts]).detach(), bias)

    def laid_out(linear: Joined, parameters: tuple[torch.Tensor, ...]) -> Joined:
        """What the function computes with, when finite differences move the parameters."""
        count = len(linear.parts)
        bias = torch.cat(parameters[count:]).detach() if biases else None
        return Joined(linear.parts, torch.cat(parameters[:count]).detach(), bias)

    x, scale = number(3, 6).requires_grad_(), number(6).requires_grad_()
    projections, gate_up, down = joined(6, 8, 4, 4), joined(6, 5, 5), joined(5, 6)

    def projected(x: torch.Tensor, scale: torch.Tensor, *parameters: torch.Tensor) -> Any:
        return _Projections.apply(x, scale, 1e-3, laid_out(projections, parameters), 4, *parameters)

    def through_mlp(x: torch.Tensor, scale: torch.Tensor, *parameters: torch.Tensor) -> Any:
        first, second = parameters[: len(gate_up.parameters)], parameters[len(gate_up.parameters) :]
        return _Mlp.apply(x, scale, 1e-3, laid_out(gate_up, first), laid_out(down, second), *parameters)

    assert torch.autograd.gradcheck(projected, (x, scale, *projections.parameters))
    assert torch.autograd.gradcheck(through_mlp, (x, scale, *gate_up.parameters, *down.parameters))
    turned = number(3, 2, 4).requires_grad_()
    angle = torch.randn(3, 1, 2, dtype=torch.float64, generator=generator).repeat(1, 1, 2)
    assert torch.autograd.gradcheck(_Rotation.apply, (turned, angle.cos(), angle.sin()))


def test_where_it_does_not_serve(tiny_policy: Any) -> None:
    policy = tiny_policy("llama")
    assert policy.lean
    policy.compute = torch.bfloat16  # autocast
    assert not policy.lean
    policy.compute = torch.float32
    policy.module.train()  # layers may be checkpointed
    assert not policy.lean
    assert not tiny_policy("gemma").lean


def test_weights_that_change_between_forward_and_backward_are_noticed(tiny_policy: Any) -> None:
    policy = tiny_policy("llama")
    packed = PackedTrees.pack(TREES)
    hidden = policy.hidden(packed.tokens, packed.positions, packed.layout())
    with torch.no_grad():
        policy.module.model.layers[0].mlp.gate_proj.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        hidden.sum().backward()
