"""`charter explain` and `charter assets`: the numbers by hand, the formulas as they will run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from charter.cli import assets as assets_cli
from charter.cli.estimate import (
    activation_bytes_per_token,
    cache_bytes_per_token,
    lora_parameters,
    memory_parts,
    microbatch_tokens,
    read_shape,
)
from charter.cli.explain import explain, facts
from charter.errors import RecipeError
from charter.recipe import LoraTable, Recipe


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder as a model leaves it: 2 layers, width 8, 2 heads of 4, 1 key-value head, 100 tokens, tied."""
    import numpy as np
    from safetensors.numpy import save_file

    config = {
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 16,
        "vocab_size": 100,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (100, 8), "model.norm.weight": (8,)}
    for layer in range(2):
        base = f"model.layers.{layer}"
        shapes |= {
            f"{base}.self_attn.q_proj.weight": (8, 8),
            f"{base}.self_attn.k_proj.weight": (4, 8),
            f"{base}.self_attn.v_proj.weight": (4, 8),
            f"{base}.self_attn.o_proj.weight": (8, 8),
            f"{base}.mlp.gate_proj.weight": (16, 8),
            f"{base}.mlp.up_proj.weight": (16, 8),
            f"{base}.mlp.down_proj.weight": (8, 16),
            f"{base}.norm.weight": (8,),
        }
    save_file(
        {name: np.zeros(shape, dtype=np.float16) for name, shape in shapes.items()}, tmp_path / "model.safetensors"
    )
    return tmp_path


def recipe(model: Path | str = "m", **tables: Any) -> Recipe:
    base = {
        "method": "grpo",
        "model": str(model),
        "data": {"prompts": "arithmetic:addition"},
        "rewards": [{"name": "length", "weight": 2.0, "max": 64}],
        "sampling": {"group_size": 4, "max_new_tokens": 10},
        "grpo": {"prompts_per_step": 3},
        "run": {"steps": 7},
    }
    return Recipe.model_validate(base | tables)


# per layer: 8·8 + 4·8 + 4·8 + 8·8 = 192 of attention, 3·128 = 384 of the MLP, 8 of the norm: 584
# both layers 1168, embedding 800, last norm 8: 1976
PARAMETERS = 1976


def test_memory_by_hand(model: Path) -> None:
    shape = read_shape(model)
    assert shape is not None
    assert shape.parameters == PARAMETERS
    made = recipe(model, grpo={"prompts_per_step": 3, "kl_coef": 0.1}, learner={"max_microbatch_tokens": 64})
    assert memory_parts(made, shape, 10**9) == {
        "weights": 4 * PARAMETERS,
        "gradients": 4 * PARAMETERS,
        "optimizer state": 8 * PARAMETERS,
        "reference model": 4 * PARAMETERS,
        # per token: 2 layers · (12·8 + 4·16 + 4·2·4) = 384 numbers of 4 bytes; 64 tokens
        "activations of a micro-batch": 4 * 384 * 64,
        # 64 MiB / (100 · 4 bytes) = 167772 rows whole; logits and their gradient
        "logits chunk": 2 * 167_772 * 400,
        # 2 · 2 layers · 1 head · 4 · 4 bytes = 64 bytes per token; 3 · 4 · 10 tokens
        "sampler cache": 64 * 120,
    }


def test_bfloat16_halves_activations_and_cache_and_nothing_else(model: Path) -> None:
    shape = read_shape(model)
    assert shape is not None
    full = memory_parts(recipe(model, learner={"max_microbatch_tokens": 64}), shape, 10**9)
    half = memory_parts(recipe(model, learner={"max_microbatch_tokens": 64, "dtype": "bfloat16"}), shape, 10**9)
    ratios = {name: half[name] / full[name] for name in full if full[name]}
    assert ratios.pop("activations of a micro-batch") == ratios.pop("sampler cache") == 0.5
    assert set(ratios.values()) == {1.0}


def test_adapters_are_all_that_is_trained(model: Path) -> None:
    shape = read_shape(model)
    assert shape is not None
    # per layer Σ (rows + columns): 16 + 12 + 12 + 16 + 24 + 24 + 24 = 128; both layers 256; rank 3
    assert lora_parameters(LoraTable(rank=3), shape) == 768
    assert lora_parameters(LoraTable(rank=3, targets=["q_proj"]), shape) == 3 * 2 * 16
    parts = memory_parts(recipe(model, lora={"rank": 3}, grpo={"kl_coef": 0.1}), shape, 10**9)
    assert parts["gradients"] == 4 * 768
    assert parts["reference model"] == 0


CONFIG = SimpleNamespace(
    hidden_size=8,
    intermediate_size=16,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=4,
    num_hidden_layers=2,
    model_type="llama",
)


def make_llama(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config |= {"architectures": ["LlamaForCausalLM"]}  # its activation is silu where nothing is said
    (model / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("lean", [False, True])
def test_the_law_of_activations_is_the_learners(model: Path, checkpointing: bool, lean: bool) -> None:
    from charter.learner import plan

    if lean:
        make_llama(model)
    shape = read_shape(model)
    assert shape is not None
    made = recipe(model, learner={"activation_checkpointing": checkpointing, "device": "cpu"})
    theirs = plan.activation_bytes_per_token(CONFIG, lean=lean, checkpointing=checkpointing, element_bytes=4)
    assert activation_bytes_per_token(made, shape) == theirs
    # layers · (3·8 + 2·16 + 3·8 + 2·4) numbers of 4 bytes
    assert checkpointing or theirs == (2 * 88 * 4 if lean else 2 * 192 * 4)


def test_what_is_kept_of_a_llama_depends_on_how_it_is_run(model: Path) -> None:
    make_llama(model)
    shape = read_shape(model)
    assert shape is not None
    little, much = 2 * 88, 2 * 192
    for tables, bytes_per_token in (
        ({"learner": {"device": "cpu"}}, 4 * little),
        ({"learner": {"device": "cuda"}}, 4 * much),
        ({"learner": {"device": "cpu", "dtype": "bfloat16"}}, 2 * much),
        ({"learner": {"device": "cpu"}, "lora": {"rank": 2}}, 4 * much),
    ):
        assert activation_bytes_per_token(recipe(model, **tables), shape) == bytes_per_token


@pytest.mark.parametrize(
    ("words", "lean"),
    [
        ({"architectures": ["LlamaForSequenceClassification"]}, True),  # a preference model
        ({"hidden_act": "gelu"}, False),
        ({"architectures": ["Qwen3ForCausalLM"]}, False),  # norms over each head
        ({"architectures": ["MistralForCausalLM"], "sliding_window": 7}, False),
        ({"architectures": ["Qwen2ForCausalLM"], "sliding_window": 7, "use_sliding_window": False}, True),
        ({"architectures": None}, False),
    ],
)
def test_whose_forward_keeps_little(model: Path, words: dict[str, Any], lean: bool) -> None:
    make_llama(model)
    config = json.loads((model / "config.json").read_text()) | words
    (model / "config.json").write_text(json.dumps(config))
    shape = read_shape(model)
    assert shape is not None
    assert shape.lean == lean


@pytest.mark.parametrize("lean", [False, True])
def test_the_micro_batch_is_the_learners(model: Path, lean: bool) -> None:
    import torch

    from charter.learner import plan

    if lean:
        make_llama(model)
    shape = read_shape(model)
    assert shape is not None
    made = recipe(model, learner={"device": "cpu"})
    for total in (10**5, 10**7, 10**9):
        policy: Any = SimpleNamespace(
            compute=torch.float32, config=CONFIG, memory_bytes=total, lean=lean, device=torch.device("cpu")
        )
        assert microbatch_tokens(made, shape, total) == plan.token_budget(policy)


def test_what_is_there_together_at_the_peak() -> None:
    from charter.cli.estimate import peak_bytes

    resident = {"weights": 1, "gradients": 2, "optimizer state": 4, "reference model": 8, "reward models": 16}
    learning = {"activations of a micro-batch": 100, "logits chunk": 10}
    assert peak_bytes(resident | learning) == 31 + 110
    assert peak_bytes(resident | learning | {"sampler cache": 109}) == 31 + 110
    assert peak_bytes(resident | learning | {"sampler cache": 111}) == 31 + 111


def test_what_goes_through_together(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from charter.cli import estimate
    from charter.learner import plan

    monkeypatch.setattr(estimate, "NVIDIA", tmp_path / "no such file")

    assert estimate.ENOUGH_TOKENS == plan.ENOUGH_TOKENS == 1024
    shape = read_shape(model)
    assert shape is not None
    for sampling, learner, tokens in (
        ({"group_size": 8, "max_new_tokens": 100}, {}, 2 * 1024),
        ({"group_size": 8, "max_new_tokens": 100}, {"max_microbatch_tokens": 2047}, 1024),
        ({"group_size": 8, "max_new_tokens": 100}, {"device": "cuda:0"}, 16_384),
        ({"group_size": 8, "max_new_tokens": 100}, {"max_microbatch_tokens": 64}, 64),
        ({"group_size": 16, "max_new_tokens": 100}, {}, 2 * 1024),  # in parts
        ({"group_size": 2, "max_new_tokens": 3000}, {}, 2 * 3000),  # a completion is never cut
        ({"group_size": 16, "max_new_tokens": 100}, {"activation_checkpointing": True}, 2 * 1600),
        ({"group_size": 16, "max_new_tokens": 100}, {"dtype": "bfloat16", "device": "cpu"}, 2 * 1600),
    ):
        made = recipe(model, sampling=sampling, learner=learner)
        assert estimate.forward_tokens(made, shape, 10**12) == tokens
    monkeypatch.setattr(estimate, "NVIDIA", tmp_path)
    assert estimate.forward_tokens(recipe(model), shape, 10**12) == 16_384
    assert estimate.forward_tokens(recipe(model, learner={"device": "cpu"}), shape, 10**12) == 2 * 1024
    monkeypatch.setattr(estimate, "NVIDIA", tmp_path / "no such file")
    for method, tokens in (("sft", 4096), ("dpo", 8192), ("preference", 4096)):  # an example; both answers of a pair
        assert estimate.forward_tokens(recipe(model).model_copy(update={"method": method}), shape, 10**12) == tokens


def test_the_logits_chunk_is_the_models() -> None:
    from charter.cli import estimate
    from charter.model import logprobs

    assert estimate.LOGITS_CHUNK_BYTES == logprobs.CHUNK_BYTES


def test_sizes_and_formulas(model: Path) -> None:
    found = facts(
        recipe(model, grpo={"prompts_per_step": 3, "kl_coef": 0.5, "loss": "gspo", "aggregation": "constant"})
    )
    assert found["sizes"]["completions per step"] == 12
    assert found["sizes"]["sampled tokens per step, at most"] == 120
    assert found["sizes"]["sampled tokens in the run, at most"] == 840
    formulas = found["formulas"]
    assert formulas["advantage"] == {"expression": "A = r − mean(r)", "source": "Dr. GRPO, arXiv 2503.20783"}
    assert "1 − 3e-4, 1 + 4e-4" in formulas["policy loss"]["expression"]
    assert "2507.18071" in formulas["policy loss"]["source"]
    assert "(completions of the step · 10)" in formulas["aggregation"]["expression"]
    assert "0.5 · k2" in formulas["KL to the starting model"]["expression"]
    assert found["rewards"] == [{"name": "length", "weight": 2.0, "timeout_s": 10.0, "max": 64}]


def test_the_text_says_what_the_data_says(model: Path) -> None:
    made = recipe(
        model,
        grpo={
            "prompts_per_step": 3,
            "truncated": "penalize",
            "soft_window": 4,
            "kl_coef": 0.25,
            "kl_in": "reward",
            "mismatch": "mask",
            "mismatch_cap": 4.0,
        },
        optimizer={"schedule": "cosine", "final_fraction": 0.1, "learning_rate": 1e-4, "warmup_steps": 3},
    )
    text = explain(made)
    for part in (
        "r ← r − min(1, max(0, tokens − 6) / 4)",
        "r ← r − 0.25 · Σ_t k1",
        "w, 0 outside [0.25, 4]",
        "rises from 0 over 3 steps, then half a cosine from 0.0001 to 1e-05",
        "max = 64",
        f"Memory, estimated for {PARAMETERS:,} parameters",
    ):
        assert part in text
    assert cache_bytes_per_token(made, read_shape(model) or pytest.fail("no shape")) == 64


def test_a_model_that_is_elsewhere_gives_no_estimate_and_says_so() -> None:
    found = facts(recipe("someone/some-model"))
    assert found["memory"] is None
    assert "not on this machine yet" in found["notes"][0]


def test_a_damaged_model_folder_gives_no_estimate(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"\xff" * 20)
    assert "no config.json and .safetensors" in facts(recipe(model))["notes"][0]


def test_imitation_has_its_own_formulas(model: Path) -> None:
    found = facts(Recipe.model_validate({"method": "sft", "model": str(model), "data": {"examples": "e.jsonl"}}))
    assert set(found["formulas"]) == {"loss", "aggregation"}
    assert "sampler cache" not in found["memory"]["bytes"]


def test_a_recipe_that_cannot_run_is_not_explained() -> None:
    with pytest.raises(RecipeError):
        explain(recipe(sampling={"group_size": 1}))


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = "from charter.cli.app import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=cwd)


def test_the_command(model: Path) -> None:
    path = model / "r.toml"
    path.write_text(
        'method = "grpo"\nmodel = "."\n[data]\nprompts = "arithmetic:addition"\n[[rewards]]\nname = "math"\n'
    )
    done = run("explain", str(path), "grpo.loss=cispo", "--json", cwd=model)
    found = json.loads(done.stdout)
    assert found["memory"]["parameters"] == PARAMETERS
    assert "1 + 4)" in found["formulas"]["policy loss"]["expression"]
    wrong = run("explain", str(path), "grpo.los=cispo", cwd=model)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Did you mean 'loss'?" in wrong.stderr
    assert run("explain", cwd=model).returncode == 2
    keys = run("explain", "--keys", cwd=model).stdout
    assert re.search(r"sampling.max_new_tokens  \(whole number ≥ 1, in tokens; default 256\)\n      Longest", keys)


def test_explaining_loads_no_torch(model: Path) -> None:
    code = (
        "import sys; from charter.recipe import Recipe; from charter.cli.explain import explain; "
        "explain(Recipe.model_validate({'method': 'grpo', 'model': sys.argv[1], 'rewards': [{'name': 'math'}], "
        "'data': {'prompts': 'arithmetic:addition'}})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(model)], check=False, timeout=60).returncode == 0


def test_these_verbs_import_nothing_heavy() -> None:
    code = (
        "import sys, charter.cli.explain, charter.cli.assets; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'pydantic', 'transformers', 'httpx2')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_assets_are_listed_whether_here_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARTER_CACHE", str(tmp_path))
    runner = CliRunner()
    row, *data = json.loads(runner.invoke(assets_cli.app, ["list", "--json"]).stdout)
    assert [(one["name"], one["kind"], one["licence"]) for one in data] == [
        ("humaneval", "data", "MIT"),
        ("do-not-answer", "data", "Apache-2.0"),
        ("harm-ratings", "data", "MIT"),
        ("strongreject", "data", "MIT"),
    ]
    assert (row["name"], row["licence"], row["path"]) == ("smollm2-135m", "Apache-2.0", None)
    assert "charter assets get smollm2-135m (93 MB)" in runner.invoke(assets_cli.app, ["list"]).stdout
    folder = tmp_path / "assets" / "smollm2-135m-0.1.2"
    folder.mkdir(parents=True)
    (folder / "asset.json").write_text(json.dumps({"sha256": row["sha256"], "conversion": 1}))
    assert runner.invoke(assets_cli.app, ["get", "smollm2-135m"]).stdout.strip() == str(folder)
    unknown = runner.invoke(assets_cli.app, ["get", "nothing"])
    assert "There are: smollm2-135m, humaneval" in str(unknown.exception)


def test_dpo_says_what_it_will_do_with_pairs_of_a_file_and_with_its_own() -> None:
    offline = facts(Recipe.model_validate({"method": "dpo", "model": "m", "data": {"pairs": "p.jsonl"}}))
    assert offline["sizes"]["pairs in the run"] == 8 * 100
    assert offline["formulas"]["loss of a pair"]["expression"].startswith("−[q log σ(0.1 h)")
    assert offline["rewards"] == []
    assert any("computed once" in note for note in offline["notes"])
    online = facts(
        Recipe.model_validate(
            {
                "method": "dpo",
                "model": "m",
                "data": {"prompts": "arithmetic:addition"},
                "rewards": [{"name": "math"}],
                "dpo": {"online": True, "online_label": "bradley_terry", "kind": "ipo", "beta": 0.5},
            }
        )
    )
    assert online["sizes"]["completions per step"] == 64
    assert "exp(r_b − r_a)" in online["formulas"]["pairs"]["expression"]
    assert "(h − 1)²" in online["formulas"]["loss of a pair"]["expression"]
    assert online["rewards"][0]["name"] == "math"


def test_memory_of_dpo_has_a_reference_only_where_pairs_are_new_in_every_step(model: Path) -> None:
    pairs = {"method": "dpo", "model": str(model), "data": {"pairs": "p.jsonl"}}
    offline = facts(Recipe.model_validate(pairs))["memory"]["bytes"]
    assert offline["reference model"] == 0
    assert "sampler cache" not in offline
    new = {**pairs, "data": {"prompts": "arithmetic:addition"}, "rewards": [{"name": "math"}], "dpo": {"online": True}}
    online = facts(Recipe.model_validate(new))["memory"]["bytes"]
    assert online["reference model"] == online["weights"]
    assert online["sampler cache"] > 0


def test_ppo_says_what_the_critic_costs(model: Path) -> None:
    def parts(**ppo: object) -> dict[str, Any]:
        recipe = {"method": "ppo", "model": str(model), "data": {"prompts": "arithmetic:addition"}, "ppo": ppo}
        return facts(Recipe.model_validate({**recipe, "rewards": [{"name": "math"}]}))

    own, head = parts(), parts(critic="head", kl_coef=0.0)
    assert own["sizes"]["optimizer updates per step"] == 4
    assert "0.95 A_t+1" in own["formulas"]["advantage"]["expression"]
    assert "−0.05 (lp_old − lp_ref)" in own["formulas"]["reward of a token"]["expression"]
    separate, shared = own["memory"]["bytes"], head["memory"]["bytes"]
    n, width = separate["weights"] // 4, shared["critic"] // 4 - 1
    assert separate["critic"] == 4 * (n + width + 1)
    assert separate["optimizer state"] == 8 * (2 * n + width + 1)
    assert shared["optimizer state"] == 8 * (n + width + 1)
    assert (separate["reference model"], shared["reference model"]) == (4 * n, 0)
    assert head["notes"][-1] == "kl_coef is 0: no reference model is held"
