"""The states of the global random generators, in a form a checkpoint can hold.

Sampling does not depend on them (its draws are counter-based); a user's reward or a dropout may.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

PREFIX = "rng/"


def seed_generators(seed: int) -> None:
    """Start torch's, NumPy's and Python's global generators from one seed (NumPy takes its low 32 bits)."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def rng_state() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The states of torch (CPU, and each CUDA device in use), NumPy's global generator and `random`.

    Returns: (tensors, scalars), every key beginning with "rng/"; merge them into a CheckpointState's.
    """
    python_version, python_key, python_gauss = random.getstate()
    kind, numpy_key, position, has_gauss, cached = np.random.get_state(legacy=True)
    tensors = {
        PREFIX + "torch": torch.get_rng_state(),
        # Unsigned 32-bit words, widened: int64 is the type every reader of safetensors has.
        PREFIX + "python": torch.tensor(python_key, dtype=torch.int64),
        PREFIX + "numpy": torch.from_numpy(np.asarray(numpy_key, dtype=np.int64).copy()),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        for device, state in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"{PREFIX}cuda/{device}"] = state
    scalars = {
        PREFIX + "python": [python_version, python_gauss],
        PREFIX + "numpy": [str(kind), int(position), int(has_gauss), float(cached)],
    }
    return tensors, scalars


def set_rng_state(tensors: Mapping[str, torch.Tensor], scalars: Mapping[str, Any]) -> None:
    """Put the generators back where `rng_state` found them; keys without "rng/" are ignored.

    A CUDA device that is not there any more is left out. Raises: KeyError where the states are not in there.
    """
    torch.set_rng_state(tensors[PREFIX + "torch"].cpu())
    version, gauss = scalars[PREFIX + "python"]
    random.setstate((version, tuple(tensors[PREFIX + "python"].tolist()), gauss))
    kind, position, has_gauss, cached = scalars[PREFIX + "numpy"]
    words = tensors[PREFIX + "numpy"].numpy().astype(np.uint32)
    np.random.set_state((kind, words, position, has_gauss, cached))
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for device in range(devices):
        state = tensors.get(f"{PREFIX}cuda/{device}")
        if state is not None:
            torch.cuda.set_rng_state(state.cpu(), device)
