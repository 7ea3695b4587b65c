"""Tiny random models of every tested family, and a byte-level tokenizer, for measurements that need no download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from charter.model.chat import ChatFormat
from charter.model.load import Policy

FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3", "smollm3", "gpt2")
VOCABULARY = 259
"""Three special tokens and the 256 bytes; ids below 3 are never drawn into test sequences."""
WINDOW = 7
"""Sliding window of the families that have one: short, so that it cuts both prompts and completions."""

_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer() -> Any:
    """One token per byte, three special ones, and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bytewise = Tokenizer(
        models.BPE(
            vocab={t: i for i, t in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}, merges=[]
        )
    )
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytewise.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytewise,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
    )
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def _config(family: str) -> Any:
    import transformers as tf

    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    match family:
        case "llama":
            return tf.LlamaConfig(**shape, head_dim=8)
        case "qwen2":
            return tf.Qwen2Config(**shape)
        case "qwen3":
            return tf.Qwen3Config(**shape, head_dim=8)
        case "mistral":
            return tf.MistralConfig(**shape, head_dim=8, sliding_window=WINDOW)
        case "gemma":
            return tf.GemmaConfig(**shape, head_dim=8)
        case "gemma2":
            return tf.Gemma2Config(**shape, head_dim=8, sliding_window=WINDOW)
        case "gemma3":
            kinds = ["sliding_attention", "full_attention"]
            return tf.Gemma3TextConfig(**shape, head_dim=8, sliding_window=WINDOW, layer_types=kinds)
        case "smollm3":
            return tf.SmolLM3Config(**shape)
        case "gpt2":
            return tf.GPT2Config(
                vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=256, bos_token_id=1, eos_token_id=2
            )
        case unknown:
            raise ValueError(f"unknown family {unknown!r}: one of {', '.join(FAMILIES)}")


def make_module(family: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """A random causal LM: 2 layers, width 32, 4 heads on 2 key/value heads (GPT-2: 4).

    Weights are ten times larger than a fresh model's, so that attention is far from uniform and a wrong mask shows.
    """
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    module: Any = AutoModelForCausalLM.from_config(_config(family))
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return module.to(dtype).eval()


def make_policy(family: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> Policy:
    """The same as a policy that Charter samples and trains."""
    return Policy(make_module(family, seed, dtype), ChatFormat(make_tokenizer(), [2]), source=f"tiny {family}")


def save_folder(folder: Path, family: str = "llama", seed: int = 0) -> Path:
    """A plain Hugging Face folder of it."""
    make_module(family, seed).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder
