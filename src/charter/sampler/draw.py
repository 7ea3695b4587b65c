"""Draws that depend on nothing but their own name.

Each token is drawn with one uniform number u in [0, 1), a pure function of (seed, stream, step, prompt id,
sample index, position), through the inverse of the cumulative distribution in the order of token ids:

    token = min { v : Σ_{w ≤ v} p(w) > u }

so a rollout can be drawn again from its name, whatever else is in the batch.
Source of the generator: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11), Philox4x32-10.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_BLOCK = 256
"""Width of the first level of the two-level search through the cumulative distribution."""


def philox(counter: npt.NDArray[np.uint32], key: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Philox4x32-10: counters `[N, 4]` and keys `[N, 2]` (or `[2]`) → random words `[N, 4]`."""
    words = counter.astype(np.uint64)
    keys = np.broadcast_to(key, (len(words), 2)).astype(np.uint64)
    shift = np.uint64(32)
    for bump in range(10):
        first, second = words[:, 0] * _MULTIPLIERS[0], words[:, 2] * _MULTIPLIERS[1]
        round_key = (keys + np.array([_WEYL[0] * bump, _WEYL[1] * bump], dtype=np.uint64)) & _LOW
        words = np.stack(
            [
                (second >> shift) ^ words[:, 1] ^ round_key[:, 0],
                second & _LOW,
                (first >> shift) ^ words[:, 3] ^ round_key[:, 1],
                first & _LOW,
            ],
            axis=1,
        )
    return words.astype(np.uint32)


def uniforms(
    *, seed: int, stream: str, step: int, prompt_id: str, index: int, start: int, count: int
) -> npt.NDArray[np.float64]:
    """The uniform numbers for positions start … start + count − 1 of one completion, 53 bits each, in [0, 1)."""
    name = "\x1f".join(map(str, (seed, stream, step, prompt_id, index)))
    key = np.frombuffer(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), dtype="<u4")
    counter = np.zeros((count, 4), dtype=np.uint32)
    counter[:, 0] = np.arange(start, start + count)
    words = philox(counter, key).astype(np.uint64)
    return ((words[:, 0] << np.uint64(32) | words[:, 1]) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def choose(
    logits: Tensor, uniform: Tensor, *, temperature: float, top_p: float = 1.0, top_k: int = 0
) -> tuple[Tensor, Tensor]:
    """One token per row, and its log-probability under the distribution it was drawn from.

    logits: `[N, V]`. uniform: float64 `[N]` in [0, 1). temperature: τ; 0 takes the likeliest token and reports its
    log-probability at τ = 1. Returns (tokens `[N]`, logprobs `[N]` float32 or wider; not finite
    where the logits are not).
    """
    if temperature == 0:
        tokens = logits.argmax(-1)
        return tokens, torch.log_softmax(logits, -1).gather(1, tokens[:, None])[:, 0]
    scaled = logits / temperature if temperature != 1.0 else logits
    if top_k or top_p < 1.0:
        scaled = _truncate(scaled, top_p, top_k)
    highest = scaled.amax(-1, keepdim=True)
    mass = torch.sub(scaled, highest).exp_()
    rows, vocabulary = mass.shape
    padded = torch.nn.functional.pad(mass, (0, -vocabulary % _BLOCK)).view(rows, -1, _BLOCK)
    upto = padded.sum(-1).double().cumsum(-1)  # 256 terms keep float32's precision; the sum of all would not
    total = upto[:, -1:]
    target = uniform[:, None] * total
    block = torch.searchsorted(upto, target, right=True).clamp_(max=upto.shape[1] - 1)
    before = torch.where(block > 0, upto.gather(1, (block - 1).clamp_(min=0)), 0.0)
    inside = padded.gather(1, block[:, :, None].expand(-1, -1, _BLOCK))[:, 0].double()
    offset = torch.searchsorted(inside.cumsum(-1) + before, target, right=True)
    # rounding may leave the target at the block's very end: the last token of the block that has any mass
    last = (_BLOCK - 1) - (inside.flip(-1) > 0).to(torch.uint8).argmax(-1, keepdim=True)
    tokens = (block * _BLOCK + torch.minimum(offset, last))[:, 0].clamp_(max=vocabulary - 1)  # NaN mass has no place
    logprobs = scaled.gather(1, tokens[:, None]) - highest - total.log().to(scaled.dtype)
    return tokens, logprobs[:, 0]


def _truncate(scaled: Tensor, top_p: float, top_k: int) -> Tensor:
    """Leave the k likeliest tokens and the smallest set of likeliest tokens whose mass reaches p."""
    ordered, ids = scaled.sort(dim=-1, descending=True)
    dropped = torch.zeros_like(ordered, dtype=torch.bool)
    if top_k:
        dropped[:, top_k:] = True
    if top_p < 1.0:
        probs = torch.softmax(ordered.masked_fill(dropped, float("-inf")), dim=-1)
        dropped |= probs.cumsum(-1) - probs >= top_p
    return scaled.masked_fill(dropped.scatter(1, ids, dropped), float("-inf"))
