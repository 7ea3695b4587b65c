"""The fused forward is the module's own, in fewer operations, over the module's own memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from charter.model.fused import SHAPES, fuse
from charter.model.load import load_policy
from charter.model.prefix import PackedTrees
from charter.types import Branch, Tree

FUSED = ("llama", "qwen2", "qwen3", "mistral")
OTHERS = ("gemma", "gemma2", "gemma3", "smollm3", "gpt2")
TREES = [
    Tree(
        prefix=tuple(range(5, 16)),
        branches=(Branch(tokens=(7, 8, 9), mask=(True,) * 3), Branch(tokens=(3,), mask=(True,))),
    ),
    Tree(prefix=(40,), branches=(Branch(tokens=tuple(range(60, 69)), mask=(True,) * 9),)),
]


def both(policy: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(through the modules, through the fused forward)."""
    packed = PackedTrees.pack(TREES)
    slow = policy.module.base_model(
        input_ids=packed.tokens[None], position_ids=packed.positions[None], attention_mask=None, use_cache=False,
        packed_layout=packed.layout(),
    ).last_hidden_state[0].detach()  # fmt: skip
    with torch.inference_mode():
        return slow, policy.hidden(packed.tokens, packed.positions, packed.layout())


@pytest.mark.parametrize("family", FUSED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_gives_what_the_modules_give(tiny_policy: Any, family: str, dtype: torch.dtype) -> None:
    policy = tiny_policy(family, dtype=dtype)
    assert fuse(policy.module) is not None
    slow, fast = both(policy)
    # transformers keeps norms and angles in float32 whatever the weights are
    assert (slow - fast).abs().max() < (2e-6 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("family", OTHERS)
def test_other_shapes_keep_their_modules(tiny_policy: Any, family: str) -> None:
    policy = tiny_policy(family)
    assert type(policy.module).__name__ not in SHAPES
    assert fuse(policy.module) is None
    slow, same = both(policy)
    torch.testing.assert_close(slow, same)


def test_what_the_optimizer_writes_is_what_is_sampled(tiny_policy: Any) -> None:
    policy = tiny_policy("llama")
    before = both(policy)[1]
    parameters = dict(policy.module.named_parameters())
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.1, fused=True)
    packed = PackedTrees.pack(TREES)
    policy.hidden(packed.tokens, packed.positions, packed.layout()).square().sum().backward()
    assert all(p.grad is not None for name, p in parameters.items() if name != "lm_head.weight")
    optimizer.step()
    assert dict(policy.module.named_parameters()) == parameters  # the same objects
    slow, fast = both(policy)
    assert (fast - before).abs().max() > 0.1
    torch.testing.assert_close(slow, fast, atol=1e-5, rtol=1e-5)


def test_nothing_is_held_twice(tiny_policy: Any) -> None:
    policy = tiny_policy("llama")
    fused = fuse(policy.module)
    assert fused is not None
    assert fused.whole
    attention = policy.module.model.layers[1].self_attn
    query, key = attention.q_proj.weight, attention.k_proj.weight
    assert key.data_ptr() == query.data_ptr() + query.numel() * query.element_size()
    assert query.untyped_storage().data_ptr() == attention.v_proj.weight.untyped_storage().data_ptr()


def test_a_module_whose_memory_moved_is_fused_anew(tiny_policy: Any) -> None:
    policy = tiny_policy("llama")
    both(policy)
    projection = policy.module.model.layers[0].self_attn.k_proj
    projection.weight.data = projection.weight.data.clone().mul_(2)
    slow, fast = both(policy)
    torch.testing.assert_close(slow, fast, atol=1e-5, rtol=1e-5)


def test_a_replaced_layer_goes_through_its_module(tiny_policy: Any) -> None:
    class Doubled(torch.nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    policy = tiny_policy("llama")
    both(policy)
    layer = policy.module.model.layers[0].mlp
    doubled = Doubled(layer.up_proj.in_features, layer.up_proj.out_features, bias=False)
    doubled.weight = layer.up_proj.weight
    layer.up_proj = doubled
    slow, same = both(policy)
    torch.testing.assert_close(slow, same)


def test_a_fused_model_is_saved_and_loaded_like_any(tiny_policy: Any, tmp_path: Path) -> None:
    policy = tiny_policy("qwen2")
    both(policy)
    state = {name: tensor.clone() for name, tensor in policy.module.state_dict().items()}
    policy.save(tmp_path)
    again = load_policy(tmp_path, device="cpu").module.state_dict()
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())
    weights = sum(p.numel() * p.element_size() for p in policy.module.parameters())
    assert (tmp_path / "model.safetensors").stat().st_size < 1.2 * weights + 20_000


def test_it_leaves_the_parameters_fit_for_training(tiny_policy: Any) -> None:
    policy = tiny_policy("llama")
    with torch.inference_mode():
        packed = PackedTrees.pack(TREES)
        policy.hidden(packed.tokens, packed.positions, packed.layout())
    assert not any(p.is_inference() for p in policy.module.parameters())
    both(policy)[0]
    policy.hidden(packed.tokens.clone(), packed.positions.clone(), packed.layout()).sum().backward()
