"""How much memory do the methods need? GRPO against PPO with everything RLHF holds, at two sizes of model.

    python benchmarks/memory_of_methods.py [--json] [--store] [--sizes 135m,200m] [--cases grpo,ppo,…] [--folder DIR]

Each case trains two steps in a process of its own, and the peak is that process's high-water mark. Cases: `grpo` (no
KL: the policy alone), `grpo_kl` (and a reference), `ppo` (policy, a critic of its own, a reward model and a reference
of the policy's size), `ppo_head` (the critic a head on the policy). The same prompts, completions and cap on a
micro-batch. `135m` is the embedded model, `200m` a random one of the same family (26 layers of width 768), `360m` one
of the family's next shape (32 layers of width 960, needs 24 GB for ppo); reward models are the same backbones with a
random head, since only their size matters here. PPO makes one update a step here, as GRPO does, so that the largest
forward of both has about the same tokens (`tokens_forwarded`, at most the cap of a micro-batch).
Results go to benchmarks/results/memory_of_methods.json with --store: per size and case the measured peak, what the
process holds before any model is there, the estimate, and the ratios grpo / ppo.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import as_json, facts, run_child, store, table

EMBEDDED = "smollm2-135m"
CASES = ("grpo", "grpo_kl", "ppo", "ppo_head")
STEPS = 2
SHAPES: dict[str, dict[str, int]] = {
    "200m": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 26, "num_attention_heads": 12,
             "num_key_value_heads": 4, "head_dim": 64},
    "360m": {"hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 15,
             "num_key_value_heads": 5, "head_dim": 64},
}  # fmt: skip
"""Random models of the embedded one's family."""

RECIPE = """
method = "{method}"
model = "{model}"
[data]
prompts = "arithmetic:addition"
template = "What is {{question}}? Reply with only the number."
size = 200
held_out = 0
[sampling]
group_size = 8
max_new_tokens = 32
[[rewards]]
{reward}
[grpo]
prompts_per_step = 4
kl_coef = {kl}
[ppo]
prompts_per_step = 4
critic = "{critic}"
kl_coef = 0.05
epochs = 1
minibatches = 1
[optimizer]
learning_rate = 1e-6
[learner]
max_microbatch_tokens = 1024
[run]
steps = {steps}
save_every = {steps}
"""

SPREAD = '''
def spread(completions):
    """Rewards that differ inside every group, so that every group is learnt from."""
    return [float((7 * len(text) + i) % 11) for i, text in enumerate(completions)]
'''


def make_models(folder: Path, size: str) -> None:
    """In a child: the policy's folder (but for the embedded one) and a reward model of its size."""
    import torch
    import transformers

    from charter import assets
    from charter.model.heads import ScalarHead
    from charter.model.load import load_policy
    from charter.model.scorer import ScoreFacts, save_scorer

    embedded = assets.get(EMBEDDED)
    if size == "135m":
        policy = load_policy(str(embedded))
    else:
        torch.manual_seed(0)
        config = transformers.AutoConfig.from_pretrained(embedded)
        for name, value in SHAPES[size].items():
            setattr(config, name, value)
        module = transformers.AutoModelForCausalLM.from_config(config)
        module.save_pretrained(folder / "policy")
        transformers.AutoTokenizer.from_pretrained(embedded).save_pretrained(folder / "policy")
        policy = load_policy(str(folder / "policy"))
    head = ScalarHead(policy)
    torch.nn.init.normal_(head.weight, std=0.1)
    save_scorer(folder / "reward-model", policy, head, ScoreFacts(mean=0.0, std=1.0, replies=2, max_tokens=1024))


def recipe_of(case: str, folder: Path, size: str) -> str:
    """The recipe of a case."""
    ppo = case.startswith("ppo")
    scorer, rule = folder / "reward-model", folder / "spread.py"
    return RECIPE.format(
        method="ppo" if ppo else "grpo",
        model=EMBEDDED if size == "135m" else folder / "policy",
        reward=f'name = "preference"\nmodel = "{scorer}"' if ppo else f'name = "{rule}:spread"',
        kl=0.05 if case == "grpo_kl" else 0.0,
        critic="head" if case == "ppo_head" else "separate",
        steps=STEPS,
    )


def measure(case: str, folder: Path, size: str) -> dict[str, Any]:
    """One case, in a child of its own."""
    import psutil

    from charter.cli.compare_memory import memory_bytes, models_resident, reward_model_shape, shape_of
    from charter.recipe import load_recipe

    place = folder / case
    for part in ("jobs", "measured"):
        (place / part).mkdir(parents=True, exist_ok=True)
    (place / "jobs" / "run.toml").write_text(recipe_of(case, folder, size), encoding="utf-8")
    (place / "jobs" / "run.json").write_text('{"budget": {"tokens": null, "seconds": null}}\n', encoding="utf-8")
    run_child([sys.executable, "-m", "charter.cli.compare_child", "train", place, "run"])
    memory = json.loads((place / "measured" / "run.memory.json").read_text("utf-8"))
    rows = [json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text("utf-8").splitlines()]
    recipe = load_recipe(place / "jobs" / "run.toml")
    updates = recipe.ppo.epochs * recipe.ppo.minibatches if recipe.method == "ppo" else 1
    shape, scorer = shape_of(recipe), reward_model_shape(recipe)
    parts = memory_bytes(
        recipe, shape, scorer, total_memory=psutil.virtual_memory().total,
        largest_update=int(max(row["tokens/forwarded"] for row in rows)) // updates,
        prompts=int(max(row["tokens/prompt"] for row in rows)),
    )  # fmt: skip
    return {
        "peak_bytes": memory["peak"],
        "baseline_bytes": memory["baseline"],
        "own_bytes": memory["peak"] - memory["baseline"],
        "estimate_bytes": parts.pop("peak"),
        "bytes": parts,
        "models_resident": [model["name"] for model in models_resident(recipe, shape, scorer)],
        "parameters": shape.parameters,
        "tokens_forwarded": [row["tokens/forwarded"] for row in rows],
    }


def measure_size(size: str, cases: list[str], parent: Path) -> dict[str, Any]:
    """All cases at one size, and the ratios."""
    folder = parent / size
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spread.py").write_text(SPREAD, encoding="utf-8")
    if not (folder / "reward-model" / "preference_model.json").is_file():
        run_child([sys.executable, __file__, "--make", folder, "--sizes", size])
    found: dict[str, Any] = {}
    for case in cases:
        print(f"{size} {case} …", file=sys.stderr, flush=True)
        found[case] = measure(case, folder, size)
    ratios = {
        f"{a} / {b}": {kind: found[a][kind] / found[b][kind] for kind in ("peak_bytes", "own_bytes", "estimate_bytes")}
        for a in ("grpo", "grpo_kl")
        for b in ("ppo", "ppo_head")
        if a in found and b in found
    }
    return {"cases": found, "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data instead of a table")
    parser.add_argument("--store", action="store_true", help="write benchmarks/results/memory_of_methods.json")
    parser.add_argument("--sizes", default="135m,200m", help=f"comma-separated: {', '.join(('135m', *SHAPES))}")
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated")
    parser.add_argument("--folder", type=Path, help="where models and runs go; thrown away when left out")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.make is not None:
        make_models(asked.make, asked.sizes)
        return
    sizes, cases = asked.sizes.split(","), asked.cases.split(",")
    if set(cases) - set(CASES) or set(sizes) - {"135m", *SHAPES}:
        parser.error(f"cases are {', '.join(CASES)}; sizes are 135m, {', '.join(SHAPES)}")
    with tempfile.TemporaryDirectory(prefix="charter-memory-") as name:
        parent = asked.folder.resolve() if asked.folder else Path(name)
        data = {**facts(), "steps": STEPS, "sizes": {size: measure_size(size, cases, parent) for size in sizes}}
    if asked.store:
        print(f"stored {store('memory_of_methods', data)}", file=sys.stderr)
    if asked.json:
        print(as_json(data))
        return
    lines = [
        [size, case, ", ".join(one["models_resident"]), *(round(one[k] / 2**30, 2) for k in
         ("peak_bytes", "baseline_bytes", "estimate_bytes"))]
        for size, found in data["sizes"].items()
        for case, one in found["cases"].items()
    ]  # fmt: skip
    print(table(lines, ("size", "case", "models", "peak GiB", "before GiB", "estimate GiB")))
    for size, found in data["sizes"].items():
        for name, ratio in found["ratios"].items():
            print(f"{size} {name}: measured {ratio['peak_bytes']:.3f}, estimated {ratio['estimate_bytes']:.3f}")


if __name__ == "__main__":
    main()
