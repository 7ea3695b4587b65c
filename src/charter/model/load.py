"""A policy: a causal language model that Charter can run packed, exactly.

Any transformers causal LM whose attention goes through the attention interface works (Llama, Qwen,
Mistral, Gemma, SmolLM and GPT-2 families are tested). On loading, Charter's packed forward is compared
with the model's own eager forward on a short text; a model that differs is refused, not approximated.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from charter.errors import ModelError
from charter.model.allocator import keep_freed_memory
from charter.model.attention import IMPLEMENTATION, Layout
from charter.model.chat import ChatFormat
from charter.model.fused import FusedForward, fuse, steady
from charter.model.lean import lean_forward
from charter.model.logprobs import Head
from charter.model.prefix import PackedTrees
from charter.types import Branch, Tree

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
_joining = threading.Lock()


class Policy:
    """A causal LM, its chat format and its output head, on one device.

    module: the transformers model, weights in float32 (float64 in tests). compute: dtype of matrix products; bfloat16
    runs under autocast over float32 weights. Dropout is off: the policy that is sampled is the one that learns.
    """

    def __init__(self, module: Any, chat: ChatFormat, *, source: str, compute: torch.dtype | None = None) -> None:
        self.module = module
        self.chat = chat
        self.source = source
        self.compute = compute or next(module.parameters()).dtype
        for part in module.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        module.set_attn_implementation(IMPLEMENTATION)
        self.head = _head_of(module)
        self._fused: FusedForward | None = None

    @property
    def config(self) -> Any:
        return self.module.config

    @property
    def device(self) -> torch.device:
        return self.module.device

    @property
    def memory_bytes(self) -> int:
        """All memory of the policy's device. Sizes are derived from it rather than from what happens to be free, so
        that a run that is resumed beside another program is cut like the run that was interrupted."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_properties(self.device).total_memory
        return int(min(psutil.virtual_memory().total, _container_limit()))

    @property
    def max_positions(self) -> int | None:
        """Longest sequence the model has positions for, or None."""
        return getattr(self.config, "max_position_embeddings", None)

    @property
    def kv_heads(self) -> int:
        return getattr(self.config, "num_key_value_heads", None) or self.config.num_attention_heads

    @property
    def head_dim(self) -> int:
        return getattr(self.config, "head_dim", None) or self.config.hidden_size // self.config.num_attention_heads

    @contextlib.contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Autocast to the compute dtype where it is narrower than the weights."""
        weights = next(self.module.parameters()).dtype
        with torch.autocast(self.device.type, dtype=self.compute, enabled=self.compute != weights):
            yield

    def hidden(self, tokens: Tensor, positions: Tensor, layout: Layout) -> Tensor:
        """Last hidden states `[T, D]` of packed tokens `[T]` at `positions` `[T]` under `layout`.

        Through the fused forward if the model has one, and with a gradient through the lean one where it serves.
        """
        learning = torch.is_grad_enabled()
        fused = self.fused_forward() if self._plain or not learning else None
        if fused is not None:
            return lean_forward(fused, tokens, positions, layout) if learning else fused(tokens, positions, layout)
        return self.module.base_model(
            input_ids=tokens[None],
            position_ids=positions[None],
            attention_mask=None,
            use_cache=False,
            packed_layout=layout,
        ).last_hidden_state[0]

    @property
    def lean(self) -> bool:
        """Whether a forward with gradient keeps little (`charter.model.lean`)."""
        return self._plain and self.fused_forward() is not None

    @property
    def steady(self) -> bool:
        """Whether a token's rotary angles depend on its position alone, not on the longest of the batch."""
        return steady(getattr(self.module.base_model, "rotary_emb", None))

    @property
    def _plain(self) -> bool:
        """Whether products are in the weights' own dtype, and this is not training mode, in which transformers
        checkpoints whole layers."""
        return self.compute == next(self.module.parameters()).dtype and not self.module.training

    def logits(self, hidden: Tensor) -> Tensor:
        """`[N, D]` → float32 (or wider) `[N, V]`."""
        return self.head.logits(hidden)

    def fused_forward(self) -> FusedForward | None:
        """The forward without gradient over the module's own memory, or None where the model has none."""
        if self._fused is None or not self._fused.whole:
            with _joining:  # two decoding threads may find it missing at once
                if self._fused is None or not self._fused.whole:
                    self._fused = fuse(self.module)
        return self._fused

    def verify(self) -> None:
        """Compare the packed forward with the model's own eager one.

        Raises ModelError when the logits differ by more than rounding allows.
        """
        vocabulary = int(self.head.weight.shape[0])
        tokens = tuple((7919 * i + 13) % min(vocabulary, 32000) for i in range(24))
        tree = Tree(
            prefix=tokens[:16],
            branches=tuple(Branch(tokens=part, mask=(True,) * len(part)) for part in (tokens[16:], tokens[17:20])),
        )
        packed = PackedTrees.pack([tree], self.device)
        with torch.inference_mode():
            hidden = self.hidden(packed.tokens, packed.positions, packed.layout())
            ours = [self.head.logits(hidden[packed.source[row, :n]]) for row, n in ((0, 8), (1, 3))]
            self.module.set_attn_implementation("eager")
            try:
                theirs = [
                    self.module(torch.tensor([ids], device=self.device)).logits[0, 15:-1].to(ours[0].dtype)
                    for ids in (tokens, tokens[:16] + tokens[17:20])
                ]
            finally:
                self.module.set_attn_implementation(IMPLEMENTATION)
        scale = max(float(t.abs().max()) for t in theirs)
        worst = max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)) / max(scale, 1e-6)
        if not worst < 1e-3:
            raise ModelError(
                f"{self.source} ({type(self.module).__name__}): Charter's packed forward differs from the model's own "
                f"by {worst:.1e} of the largest logit (limit 1e-3); this architecture cannot be run exactly"
            )

    def save(self, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
        """Write a plain Hugging Face folder that from_pretrained and vLLM load; `state` replaces the module's own."""
        self.module.save_pretrained(folder, state_dict=state)
        self.chat.tokenizer.save_pretrained(folder)


def _container_limit() -> float:
    """Memory limit of the container's control group in bytes (version 2, then 1), infinite where there is none."""
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            return int(Path(file).read_text())  # "max" is no number: no limit
    return math.inf


def load_policy(
    source: str | Path,
    *,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    verify: bool = True,
) -> Policy:
    """Load a causal LM from a folder or a Hugging Face id.

    Raises ModelError naming what is missing: no such folder or id, no config.json, no weights, no tokenizer.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    where = pick_device(device)
    compute = {"float32": torch.float32, "bfloat16": torch.bfloat16}.get(
        dtype, torch.bfloat16 if where.type == "cuda" else torch.float32
    )
    if where.type == "cpu":
        keep_freed_memory()
    name = str(source)
    _check_folder(Path(source), name)
    tokenizer = _load_tokenizer(name)
    try:
        module: Any = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{name} did not load as a causal language model: {_first_line(error)}") from error
    _own_memory(module.to(where).eval())
    declared = _ids(module.config.eos_token_id) | _ids(getattr(module.generation_config, "eos_token_id", None))
    policy = Policy(module, ChatFormat(tokenizer, sorted(declared), source=name), source=name, compute=compute)
    if len(tokenizer) > policy.head.weight.shape[0]:
        raise ModelError(
            f"{name}: the tokenizer has {len(tokenizer)} tokens and the model {policy.head.weight.shape[0]}; "
            "they do not belong together"
        )
    if verify:
        policy.verify()
    return policy


def _own_memory(module: torch.nn.Module) -> None:
    """Move weights out of the file that they are mapped from: once some of them are joined elsewhere
    (`charter.model.fused`), the rest would hold all of its pages, and it may be written anew while they are in use."""
    for parameter in module.parameters():
        if parameter.device.type == "cpu":
            parameter.data = parameter.data.clone()


def pick_device(device: str) -> torch.device:
    """The device of a recipe; "auto" is CUDA where there is one. Raises ModelError for one that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"learner.device = {device!r} is no device: use auto, cpu, cuda or cuda:N") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"learner.device = {device!r}, but torch sees no CUDA device; use auto or cpu")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ModelError(f"learner.device = {device!r}, but torch sees {torch.cuda.device_count()} CUDA devices")
    return chosen


def _check_folder(folder: Path, name: str) -> None:
    if not folder.exists():
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise ModelError(f"there is no model folder {name}")
        return
    if not (folder / "config.json").is_file():
        raise ModelError(f"model folder {name} has no config.json; expected a folder that save_pretrained wrote")
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise ModelError(
            f"model folder {name} has no tokenizer (looked for {', '.join(TOKENIZER_FILES)}); "
            "save one into it: tokenizer.save_pretrained(folder)"
        )


def _load_tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(
            f"the tokenizer of {name} did not load: {_first_line(error)}. Give an asset name (charter assets list), "
            "a folder, or a Hugging Face id that this machine can reach"
        ) from error


def _head_of(module: Any) -> Head:
    layer = module.get_output_embeddings()
    if not isinstance(layer, nn.Linear):
        raise ModelError(f"{type(module).__name__} has no linear output layer")
    config = module.config
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    scaling = getattr(config, "logits_scaling", None)
    if scaling:
        scale /= float(scaling)
    return Head(layer.weight, layer.bias, scale, getattr(config, "final_logit_softcapping", None))


def _ids(value: int | list[int] | None) -> frozenset[int]:
    if value is None:
        return frozenset()
    return frozenset(value) if isinstance(value, list) else frozenset({value})


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
