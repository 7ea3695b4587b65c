"""A quantised GGUF → a plain Hugging Face folder in float32, checked against what the GGUF says of itself."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from charter.errors import AssetError

CONVERSION = 1
"""Raised when what conversion writes changes, so that folders of an older one are made anew."""

_DIGIT_BY_DIGIT = ("smollm",)
"""GGUF pre-tokenizers that split numbers into digits, which transformers' reader of GGUF leaves out."""


def convert_gguf(gguf: Path, target: Path, *, end_of_turn: str, also_ends: Sequence[str] = ()) -> None:
    """Write config, float32 weights, tokenizer with chat template, and generation config.

    Args:
        gguf: a Llama model. target: folder to fill; exists. end_of_turn: the token that must be the model's end of
            sequence. also_ends: further tokens that end a completion.

    Raises:
        AssetError: the GGUF is no Llama, or what transformers made of its tokenizer is not what it holds.
    """
    from gguf import GGUFReader

    reader = GGUFReader(str(gguf))
    held = {name: field.contents() for name, field in reader.fields.items()}
    if held.get("general.architecture") != "llama":
        raise AssetError(f"{gguf.name}: its architecture is {held.get('general.architecture')!r}, expected 'llama'")
    with _quiet():
        tokenizer = _tokenizer(gguf, held)
        _compare(tokenizer, held, end_of_turn, gguf.name)
        _model(gguf, target, held, [tokenizer.convert_tokens_to_ids(token) for token in (end_of_turn, *also_ends)])
        tokenizer.save_pretrained(str(target))
        _reload(target, tokenizer, gguf.name)


def _tokenizer(gguf: Path, held: dict[str, Any]) -> Any:
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    if held.get("tokenizer.ggml.pre") in _DIGIT_BY_DIGIT:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    tokenizer.model_max_length = int(held["llama.context_length"])
    return tokenizer


def _compare(tokenizer: Any, held: dict[str, Any], end_of_turn: str, name: str) -> None:
    """The tokenizer has the GGUF's tokens under the GGUF's ids, its special ids and its chat template."""
    tokens: list[str] = held["tokenizer.ggml.tokens"]
    ids: dict[str, int] = tokenizer.get_vocab()
    wrong = next((i for i, token in enumerate(tokens) if ids.get(token) != i), None)
    if wrong is not None or len(ids) != len(tokens):
        at = "" if wrong is None else f", first at id {wrong} ({tokens[wrong]!r})"
        raise AssetError(f"{name}: the vocabulary that was read differs from the file's{at}. Report this as a bug")
    expected = {
        "end of sequence": (tokenizer.eos_token_id, held["tokenizer.ggml.eos_token_id"]),
        "end of turn": (tokenizer.eos_token_id, ids.get(end_of_turn)),
        "beginning of sequence": (tokenizer.bos_token_id, held.get("tokenizer.ggml.bos_token_id")),
        "chat template": (tokenizer.chat_template, held.get("tokenizer.chat_template")),
    }
    for what, (found, meant) in expected.items():
        if found != meant:
            raise AssetError(f"{name}: the {what} is {found!r} and should be {meant!r}. Report this as a bug")


def _model(gguf: Path, target: Path, held: dict[str, Any], eos: list[int]) -> None:
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    source = LlamaForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
    settings = source.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path", "model_type", "transformers_version"):
        settings.pop(key, None)
    # the GGUF holds float32: 1e-5 comes back as 9.999999747e-06
    settings["rms_norm_eps"] = float(f"{settings['rms_norm_eps']:.6g}")
    settings["eos_token_id"] = eos[0]
    with torch.device("meta"):
        plain = LlamaForCausalLM(LlamaConfig(**settings))
    plain.load_state_dict(source.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = GenerationConfig(
        bos_token_id=held.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=eos,
        pad_token_id=held.get("tokenizer.ggml.padding_token_id", eos[0]),
    )
    plain.save_pretrained(str(target))
    # written private to the user; a shared cache is meant to be read
    for file in target.iterdir():
        file.chmod(0o644)


def _reload(target: Path, tokenizer: Any, name: str) -> None:
    """What was saved reads back as what was meant: no quantisation, and the same ids for the same text."""
    from transformers import AutoTokenizer

    if "quantization_config" in json.loads((target / "config.json").read_text(encoding="utf-8")):
        raise AssetError(f"{name}: the converted model still says that it is quantised. Report this as a bug")
    saved: Any = AutoTokenizer.from_pretrained(str(target))
    turns = [{"role": "user", "content": "What is 59+63?"}, {"role": "assistant", "content": " It's\n 122!"}]
    text = saved.apply_chat_template(turns, tokenize=False)
    ids = saved(text)["input_ids"]
    if ids != tokenizer(text)["input_ids"] or saved.decode(ids) != text:
        raise AssetError(f"{name}: the saved tokenizer does not give back the text it was given. Report this as a bug")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """transformers without its progress bars: the caller reports in lines of its own.

    One of the bars asks no setting, so standard error is held back too; failures come as exceptions.
    """
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
