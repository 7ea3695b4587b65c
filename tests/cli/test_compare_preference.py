"""A comparison on a preference task: a preference model rewards PPO and GRPO, its pairs teach DPO."""

from __future__ import annotations

import importlib
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

RECIPE = """
method = "compare"
model = "{model}"
seeds = [1]
score = "reward"
[data]
prompts = "prompts.jsonl"
held_out = 6
[sampling]
group_size = 4
max_new_tokens = 6
[[rewards]]
name = "preference"
model = "{scorer}"
[eval]
temperatures = [1.0]
[budget]
tokens = 60
[methods.grpo.grpo]
prompts_per_step = 3
[methods.ppo.ppo]
prompts_per_step = 3
[methods.dpo.data]
pairs = "pairs.jsonl"
[methods.dpo.dpo]
pairs_per_step = 2
[methods.dpo.run]
steps = 3
"""


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[..., Path]) -> dict[str, Any]:
    """The comparison, carried out in this process."""
    from charter.cli import compare_child, compare_measure
    from charter.cli.compare_runs import carry_out, plan_of
    from charter.model.heads import ScalarHead
    from charter.model.load import load_policy
    from charter.model.scorer import ScoreFacts, save_scorer
    from charter.recipe.compare import CompareRecipe, compare_conflicts
    from charter.recipe.loading import load_root

    place = tmp_path_factory.mktemp("preferences")
    backbone = load_policy(str(tiny_folder("llama", 3)))
    head = ScalarHead(backbone)
    torch.manual_seed(0)
    torch.nn.init.normal_(head.weight)
    facts = ScoreFacts(mean=0.0, std=1.0, replies=2, max_tokens=64)
    save_scorer(place / "scorer", backbone, head, facts)
    questions = [f"{i}+{i}=" for i in range(20)]
    (place / "prompts.jsonl").write_text("".join(json.dumps({"question": q}) + "\n" for q in questions))
    rows = [{"question": q, "chosen": str(2 * i), "rejected": "no"} for i, q in enumerate(questions)]
    (place / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "c.toml").write_text(RECIPE.format(model=tiny_folder("llama"), scorer=place / "scorer"))

    def part(what: str, job: Any, folder: Path) -> None:
        if what == "train":
            assert compare_child.train(folder, job.name) == 0
        else:
            compare_measure.measure(folder, job.name)

    patch = pytest.MonkeyPatch()
    patch.chdir(place)
    patch.setenv("CI", "1")
    try:
        recipe = load_root("c.toml", (), CompareRecipe, conflicts=compare_conflicts)
        folder = place / "out"
        return carry_out(recipe, plan_of(recipe, folder), folder, "c.toml", part=part)
    finally:
        patch.undo()


def test_the_reward_model_is_resident_where_it_scores(record):
    held = {name: [model["name"] for model in column["models_resident"]] for name, column in record["methods"].items()}
    assert held["ppo"] == ["policy", "critic", "reference", "reward model"]
    assert held["grpo"] == ["policy", "reward model"]


def test_a_scored_token_is_a_token_through_the_reward_model(record):
    for name in ("ppo", "grpo"):
        column = record["methods"][name]
        assert column["tokens_forward"]["reward_forward"] == column["tokens_forward"]["sampling"] > 0
        assert column["flops_of"]["reward_forward"] > 0


def test_dpo_learns_from_the_pairs_and_samples_nothing(record):
    dpo = record["methods"]["dpo"]
    assert dpo["steps"] == 3
    assert dpo["tokens_sampled"] == 0
    assert "sampling" not in dpo["tokens_forward"]
    # six pairs, three steps of two: each is learnt from once, and the reference is asked once for each
    assert dpo["tokens_forward"]["reference_forward"] == dpo["tokens_forward"]["policy_learning"]
    assert not dpo["budget"]["reached"]


def test_the_score_is_the_mean_reward_and_every_method_has_one(record):
    assert record["score"] == "reward"
    assert len({column["score_before"] for column in record["methods"].values()}) == 1
    for column in record["methods"].values():
        assert column["score_interval"][0] <= column["score"] <= column["score_interval"][1]


def test_reference_of_given_pairs_is_let_go(record):
    """DPO's reference was asked before the first step, so it is none of the models that are there while it learns."""
    assert [model["name"] for model in record["methods"]["dpo"]["models_resident"]] == ["policy"]
    assert "given pairs" in next(c["here"] for c in record["claims"] if c["said"].startswith("DPO is the cheapest"))


def test_the_page_of_the_methods_shows_the_pictures_and_the_tables(record, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    page = importlib.import_module("methods_page")
    machine = {"processor": "P", "cores": 2}
    taken = {"revision": "abc", "date": "2030-01-02T00:00:00Z", "machine": machine, "threads": 1}
    text = page.comparison_part({**record, "taken": taken}, tmp_path)
    assert "P, 2 cores, OMP_NUM_THREADS 1, commit abc, 2030-01-02." in text
    for name in page.SHOWN:
        assert f"](images/compare_{name}.svg)" in text
        ElementTree.parse(tmp_path / f"compare_{name}.svg")
    for claim in record["claims"]:
        assert claim["here"] in text
