"""Loading: what fits is loaded exactly, what does not is refused in a sentence."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch

from charter.errors import ModelError
from charter.model.load import load_policy, pick_device


def test_every_family_loads_from_a_folder_and_agrees_with_itself(tiny_folder, tiny_module, family):
    policy = load_policy(tiny_folder(family), device="cpu")
    assert policy.chat.eos_ids == {2}
    for name, value in tiny_module(family).state_dict().items():
        assert torch.equal(policy.module.state_dict()[name], value), name


def test_saving_and_loading_gives_the_same_weights(tiny_folder, tmp_path):
    policy = load_policy(tiny_folder("qwen3"), device="cpu")
    policy.save(tmp_path / "again")
    again = load_policy(tmp_path / "again", device="cpu")
    for a, b in zip(policy.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_loaded_model_does_not_look_at_its_file_again(tiny_folder, tmp_path):
    """transformers maps the file; whoever writes over it in place would change the weights, and its pages stay."""
    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "model")
    policy = load_policy(folder)
    before = {name: weight.detach().clone() for name, weight in policy.module.named_parameters()}
    with (folder / "model.safetensors").open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(0)
        file.write(bytes(size))
    for name, weight in policy.module.named_parameters():
        assert torch.equal(weight, before[name]), name
    if sys.platform.startswith("linux"):
        assert str(folder) not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        (("tokenizer.json", "tokenizer_config.json"), r"has no tokenizer .*tokenizer\.save_pretrained"),
        (("config.json",), "has no config.json"),
        (("model.safetensors",), "did not load as a causal language model"),
    ],
)
def test_a_folder_with_something_missing_says_what(tiny_folder, tmp_path, remove, message):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder("llama"), folder)
    for name in remove:
        (folder / name).unlink()
    with pytest.raises(ModelError, match=message):
        load_policy(folder, device="cpu")


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(ModelError, match=r"there is no model folder \./nowhere"):
        load_policy("./nowhere", device="cpu")


def test_a_hub_id_that_cannot_be_reached_says_what_else_to_give():
    with pytest.raises(ModelError, match=r"tokenizer of no/such-model did not load.*asset name"):
        load_policy("no/such-model", device="cpu")


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ModelError, match="is no device"):
        pick_device("warp")
    if not torch.cuda.is_available():
        assert pick_device("auto") == torch.device("cpu")
        with pytest.raises(ModelError, match="sees no CUDA device"):
            pick_device("cuda")


def test_a_tokenizer_that_is_larger_than_the_model_is_refused(tiny_folder, tmp_path, tokenizer):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder("llama"), folder)
    grown = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|im_end|>")
    grown.add_tokens([f"<extra{i}>" for i in range(5)])
    grown.save_pretrained(folder)
    with pytest.raises(ModelError, match="264 tokens and the model 259"):
        load_policy(folder, device="cpu")
