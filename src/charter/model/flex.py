"""Attention of packed trees in one kernel, on CUDA: FlexAttention over the whole row, nothing copied per branch.

    token i sees token j  ⇔  j ≤ i  ∧  tree_j = tree_i  ∧  (branch_j = prefix  ∨  branch_j = branch_i)
                             ∧  position_i − position_j < window

Blocks of keys that no token of a block of queries sees are never visited. On a CPU FlexAttention has no backward, and
`charter.model.two_part` serves. Source: Dong et al., "FlexAttention", arXiv 2412.05496.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from charter.model.attention import AttentionSpec, Layout
from charter.model.sending import send

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

    from charter.model.prefix import TreeSpan

_failed: list[str] = []
"""Why the kernel could not be built in this process, once that has happened."""


def serves(device: torch.device) -> bool:
    """Whether trees on this device attend through FlexAttention: on CUDA, where its kernels can be built."""
    return device.type == "cuda" and not _failed and importlib.util.find_spec("triton") is not None and _built(device)


@functools.cache
def _built(device: torch.device) -> bool:
    """Build the kernels of a forward and a backward for a small row."""
    from charter.model.prefix import TreeSpan

    def never() -> Layout:
        raise RuntimeError("nothing else is asked in a trial")

    query, key, value = (torch.zeros(heads, 40, 16, device=device, requires_grad=True) for heads in (4, 2, 2))
    spec = AttentionSpec(layer=0, scale=0.25, window=8, softcap=5.0)
    try:
        with torch.inference_mode(mode=False), torch.enable_grad():
            out = FlexLayout([TreeSpan(0, 20, (12, 8))], device, never).attend(query, key, value, spec)
            torch.autograd.grad(out.sum(), (query, key, value))
    except Exception as error:  # noqa: BLE001  (whatever it is, it would come again in the first step)
        _give_up(error)
    return not _failed


def _give_up(error: Exception) -> None:
    _failed.append((str(error).splitlines() or [type(error).__name__])[0])
    warnings.warn(f"attention goes on without FlexAttention: {_failed[0]}", RuntimeWarning, stacklevel=2)


class FlexLayout:
    """Attention of packed trees; masks are built once and serve every layer.

    spans: of the row's trees, in order. otherwise: makes the layout that serves where the kernel cannot be built.
    """

    def __init__(self, spans: Sequence[TreeSpan], device: torch.device, otherwise: Callable[[], Layout]) -> None:
        trees: list[int] = []
        branches: list[int] = []
        positions: list[int] = []
        for number, span in enumerate(spans):
            for branch, length in enumerate((span.prefix, *span.branches)):
                trees += [number] * length
                branches += [branch] * length
                first = span.prefix if branch else 0
                positions += range(first, first + length)
        self._tree, self._branch, self._position = (
            send(torch.tensor(x, dtype=torch.int32), device) for x in (trees, branches, positions)
        )
        self._otherwise = otherwise
        self._other: Layout | None = None
        self._masks: dict[int | None, BlockMask] = {}

    def attend(self, query: Tensor, key: Tensor, value: Tensor, spec: AttentionSpec) -> Tensor:
        if _failed:
            return self._instead().attend(query, key, value, spec)
        # rotary positions leave queries and keys in float32; the kernel wants one dtype
        device = query.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else value.dtype
        try:
            out = _kernel(query.is_cuda)(
                *(x[None].to(dtype) for x in (query, key, value)),
                score_mod=None if spec.softcap is None else _softcap(spec.softcap),
                block_mask=self._mask(spec.window),
                scale=spec.scale,
                enable_gqa=query.shape[0] != key.shape[0],
            )
        except Exception as error:
            if not type(error).__module__.startswith("torch._dynamo"):  # the compiler's own refusals alone
                raise
            _give_up(error)
            return self._instead().attend(query, key, value, spec)
        return out[0].transpose(0, 1)

    def _instead(self) -> Layout:
        if self._other is None:
            self._other = self._otherwise()
        return self._other

    def _mask(self, window: int | None) -> BlockMask:
        from torch.nn.attention.flex_attention import create_block_mask

        if window not in self._masks:
            tree, branch, position = self._tree, self._branch, self._position

            def seen(_: Tensor, __: Tensor, i: Tensor, j: Tensor) -> Tensor:
                own = (branch[j] == 0) | (branch[j] == branch[i])
                visible = (j <= i) & (tree[j] == tree[i]) & own
                return visible if window is None else visible & (position[i] - position[j] < window)

            tokens = len(tree)
            self._masks[window] = create_block_mask(seen, None, None, tokens, tokens, device=str(tree.device))
        return self._masks[window]


@functools.cache
def _kernel(compiled: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    if not compiled:
        return flex_attention
    # one each for dtypes, gradients, windows and caps; beyond its limit dynamo would run the written-out formula
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    return torch.compile(flex_attention, dynamic=True, fullgraph=True)


@functools.cache
def _softcap(cap: float) -> Callable[..., Tensor]:
    """score → cap · tanh(score / cap); one function for each cap, so that kernels are not compiled again."""

    def bent(score: Tensor, *_: Tensor) -> Tensor:
        return cap * torch.tanh(score / cap)

    return bent
