"""What a result depends on besides its recipe: versions, hashes, machine, seeds."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

PACKAGES = (
    "charter",
    "torch",
    "transformers",
    "safetensors",
    "numpy",
    "pyarrow",
    "pydantic",
    "math-verify",
    "peft",
    "llvmlite",
)
"""Distributions whose version can change a run's numbers."""


def package_versions(names: tuple[str, ...] = PACKAGES) -> dict[str, str | None]:
    """Version of each installed distribution, None for those that are not installed."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def machine() -> dict[str, Any]:
    """Kind of machine: processor, cores this process may use, memory, accelerators. Nothing that names its owner."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # torch is asked only where it is loaded already: a manifest is no reason to load it.
    torch = sys.modules.get("torch")
    accelerators = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        if torch is not None and torch.cuda.is_available()
        else []
    )
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": cores,
        "memory_bytes": psutil.virtual_memory().total,
        "accelerators": accelerators,
        "torch_threads": torch.get_num_threads() if torch is not None else None,
    }


def build_manifest(
    recipe_toml: str, *, seeds: Mapping[str, int], hashes: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The content of manifest.json.

    recipe_toml: the resolved recipe, whose SHA-256 is recorded. seeds: what each is for → its value. hashes: of
    other inputs (model files, data), name → hex digest.
    Returns: {"python", "packages", "machine", "hashes", "seeds"}, JSON-able.
    """
    digest = hashlib.sha256(recipe_toml.encode("utf-8", "backslashreplace")).hexdigest()
    return {
        "python": platform.python_version(),
        "packages": package_versions(),
        "machine": machine(),
        "hashes": {"recipe.toml": digest, **(hashes or {})},
        "seeds": dict(seeds),
    }
