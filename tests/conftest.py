"""Tiny random models of every tested family, and a byte-level tokenizer that needs no download."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable
from typing import Any

import pytest

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3", "smollm3", "gpt2")


def make_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>", *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_module(family: str, seed: int = 0, dtype: Any = None) -> Any:
    """A random causal LM of the family: 2 layers, width 32, 4 heads (2 for keys), 259 tokens."""
    import torch
    import transformers as tf

    sizes: dict[str, Any] = {
        "vocab_size": 259, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "eos_token_id": 2, "bos_token_id": 1,
        "pad_token_id": 0,
    }  # fmt: skip
    without_head_dim: dict[str, Any] = {k: v for k, v in sizes.items() if k != "head_dim"}
    window: dict[str, Any] = {"sliding_window": 7}
    config = {
        "llama": lambda: tf.LlamaConfig(**sizes),
        "qwen2": lambda: tf.Qwen2Config(**without_head_dim),
        "qwen3": lambda: tf.Qwen3Config(**sizes),
        "mistral": lambda: tf.MistralConfig(**sizes, **window),
        "gemma": lambda: tf.GemmaConfig(**sizes),
        "gemma2": lambda: tf.Gemma2Config(**sizes, **window),
        "gemma3": lambda: tf.Gemma3TextConfig(**sizes, **window, layer_types=["sliding_attention", "full_attention"]),
        "smollm3": lambda: tf.SmolLM3Config(**without_head_dim),
        "gpt2": lambda: tf.GPT2Config(
            vocab_size=259, n_embd=32, n_layer=2, n_head=4, n_positions=256, eos_token_id=2, bos_token_id=1
        ),
    }[family]()
    torch.manual_seed(seed)
    module = tf.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in module.parameters():  # larger than the usual 0.02, so that attention matters
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return module.to(dtype or torch.float32).eval()


def make_policy(family: str = "llama", seed: int = 0, dtype: Any = None) -> Any:
    from charter.model.chat import ChatFormat
    from charter.model.load import Policy

    return Policy(make_module(family, seed, dtype), ChatFormat(make_tokenizer(), [2]), source=f"tiny {family}")


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def tiny_policy() -> Callable[..., Any]:
    return make_policy


@pytest.fixture(scope="session")
def tiny_module() -> Callable[..., Any]:
    return make_module


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """A model folder on disk, as save_pretrained writes it."""

    def folder(family: str = "llama", seed: int = 0) -> Any:
        path = tmp_path_factory.mktemp(f"tiny-{family}-{seed}")
        make_module(family, seed).save_pretrained(path)
        make_tokenizer().save_pretrained(path)
        return path

    return folder


@pytest.fixture(scope="session")
def can_jail() -> bool:
    """Whether this kernel has what tier B is made of. That the jail then holds is for the tests to show."""
    if not sys.platform.startswith("linux"):
        return False
    from charter.sandbox.inside import landlock, policy

    return landlock.version(ctypes.CDLL(None, use_errno=True), policy.machine()) > 0


@pytest.fixture(scope="session")
def excuse(can_jail: bool) -> Callable[[Exception, str], None]:
    """Called with why there is no sandbox: skips where the machine lacks what the tier is made of, raises where it has
    it and the jail does not hold."""

    def excused(error: Exception, tier: str) -> None:
        no_bubblewrap = shutil.which("bwrap") is None or "did not start: bwrap" in str(error)
        if not can_jail or (tier != "B" and no_bubblewrap):
            pytest.skip(str(error))
        raise error

    return excused
