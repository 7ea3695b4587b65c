"""From the host to the device without waiting for it.

A plain copy to CUDA makes the host wait until the device has done all it was given before. Here the copy is queued like
any other work, so that the host can lay out what comes next while the device still computes. It waits only while torch
gets itself pinned memory, which it keeps and uses again.
"""

from __future__ import annotations

import torch
from torch import Tensor


def send(x: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the host on the device; on CUDA from pinned memory, which torch holds until the copy is made."""
    if torch.device(device).type != "cuda":
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)
