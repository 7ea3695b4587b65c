"""Random Llamas of a wanted size, for measurements whose cost depends on shapes and not on what was learnt.

    python benchmarks/random_models.py 1.5b|8b|SPEC FOLDER   SPEC: hidden=256,layers=6,heads=4,kv=2,inner=704,vocab=4096

Where a benchmark takes a model, `random:1.5b` or `random:hidden=256,layers=6` stands for one of these; it is kept under
Charter's cache folder. The tokenizer has one token per byte, whatever the vocabulary.
"""

from __future__ import annotations

import sys
from pathlib import Path

PREFIX = "random:"
BASE = {"hidden": 256, "layers": 6, "heads": 4, "kv": 2, "inner": 704, "vocab": 4096}
NAMED = {
    "1.5b": {"hidden": 2048, "layers": 24, "heads": 32, "kv": 8, "inner": 7168, "vocab": 65536},
    "8b": {"hidden": 4096, "layers": 32, "heads": 32, "kv": 8, "inner": 14336, "vocab": 128256},
}


def parse_spec(spec: str) -> dict[str, int]:
    """The sizes that a name or a list of KEY=NUMBER stands for. Exits with a sentence for one that means nothing."""
    if spec in NAMED:
        return NAMED[spec]
    sizes = dict(BASE)
    for word in filter(None, spec.split(",")):
        key, _, value = word.partition("=")
        if key not in BASE or not value.isdecimal() or int(value) < 1:
            raise SystemExit(
                f"{word!r} in the random model {spec!r} is none of {', '.join(f'{k}=NUMBER' for k in BASE)}; "
                f"names are {', '.join(NAMED)}"
            )
        sizes[key] = int(value)
    if sizes["hidden"] % sizes["heads"] or sizes["heads"] % sizes["kv"]:
        raise SystemExit(f"hidden must be a multiple of heads, and heads of kv: {sizes}")
    return sizes


def random_folder(spec: str) -> Path:
    """The folder of a random model, made in a child when it is not there yet."""
    from harness import run_child

    from charter.assets import cache_folder

    sizes = parse_spec(spec)
    folder = cache_folder() / "random" / "-".join(f"{key}{value}" for key, value in sizes.items())
    if not (folder / ".ready").is_file():
        run_child([sys.executable, Path(__file__).resolve(), spec, folder])
    return folder


def make(spec: str, folder: Path) -> None:
    """Write a plain Hugging Face folder."""
    import torch
    from tiny import make_tokenizer
    from transformers import AutoModelForCausalLM, LlamaConfig

    sizes = parse_spec(spec)
    torch.manual_seed(0)
    module = AutoModelForCausalLM.from_config(
        LlamaConfig(
            vocab_size=sizes["vocab"], hidden_size=sizes["hidden"], intermediate_size=sizes["inner"],
            num_hidden_layers=sizes["layers"], num_attention_heads=sizes["heads"], num_key_value_heads=sizes["kv"],
            max_position_embeddings=8192, bos_token_id=1, eos_token_id=2, pad_token_id=0, tie_word_embeddings=True,
        )
    )  # fmt: skip
    module.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    (folder / ".ready").touch()


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
