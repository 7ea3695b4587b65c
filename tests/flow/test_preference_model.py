"""Whole runs of a preference model, and of policies that learn from it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import torch

RECIPE = """
method = "preference"
model = "{model}"
seed = 3
[data]
pairs = "pairs.jsonl"
held_out = 4
[preference]
pairs_per_step = 4
head_learning_rate = 1e-2
[optimizer]
learning_rate = 3e-3
[run]
steps = 8
save_every = 3
"""


@pytest.fixture
def recipe(tmp_path, tiny_folder) -> Path:
    """Twenty-four pairs of twelve prompts, in which the reply in capitals is the better one; some labels are soft."""
    rows = [
        {
            "prompt": [{"role": "user", "content": f"{i % 12}"}],
            "chosen": chr(65 + i) * 3,
            "rejected": chr(97 + i) * 2,
            "p": 1.0 if i % 3 else 0.9,
        }
        for i in range(24)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = tmp_path / "pm.toml"
    file.write_text(RECIPE.format(model=tiny_folder("llama")))
    return file


def test_a_preference_model_learns_and_says_how_well(charter, recipe, tmp_path, left):
    run = tmp_path / "r"
    done = charter("train", recipe, "run.steps=40", "--run-dir", run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = left.timeless(run)
    assert found[0]["eval/accuracy"] == 0.5  # a head of 0 has no opinion
    # 8 pairs of 4 prompts: labels 1 and 0.9 against σ(0) = 1/2
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    record = json.loads((run / "evaluations" / "step-000000.json").read_text())["results"][0]
    assert (record["n"], record["prompts"]) == (8, 4)
    assert 0.16 <= found[0]["eval/brier"] <= 0.25
    assert found[0]["eval/loss"] == pytest.approx(0.6931, abs=1e-4)
    assert found[1]["loss"] == pytest.approx(0.6931, abs=1e-4)
    assert found[-1]["loss"] < 0.4
    summary = json.loads((run / "summary.json").read_text())
    before, after = summary["preference"]["before"], summary["preference"]["after"]
    assert after["accuracy"] == 1.0 > before["accuracy"]
    assert after["brier"] < before["brier"]
    assert after["margin"] > 1
    assert set(after) == {"accuracy", "ece", "brier", "margin", "loss", "interval", "n", "prompts"}
    from charter.run.metrics import unknown_metrics

    assert unknown_metrics({key for row in found for key in row}) == []
    assert len(rows) == 24
    shown = charter("show", run, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "preference, 40 steps" in shown.stdout
    assert "held-out accuracy" in done.stdout


def test_the_folder_is_a_sequence_classifier_of_transformers(charter, recipe, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from charter.model.scorer import answer_tokens, load_scorer
    from charter.types import Message

    assert charter("train", recipe, "--run-dir", tmp_path / "r", cwd=tmp_path).returncode == 0
    folder = tmp_path / "r" / "latest" / "model"
    ours = load_scorer(folder, device="cpu")
    theirs = AutoModelForSequenceClassification.from_pretrained(folder)
    asked: tuple[Message, ...] = ({"role": "user", "content": "7"},)
    replies = ["AAA", "bb", "AbAbAb"]
    scores = ours.score_replies(asked, replies)
    assert len(set(scores)) == 3
    rows = [
        [*prefix, *answer]
        for prefix, answer in (answer_tokens(ours.policy.chat.encode_example, asked, r) for r in replies)
    ]
    assert all(row[-1] in ours.policy.chat.eos_ids for row in rows)  # read at the closing token
    width = max(map(len, rows))
    pad = theirs.config.pad_token_id
    assert pad not in ours.policy.chat.eos_ids
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    with torch.no_grad():
        logits = theirs(ids, attention_mask=(ids != pad).long()).logits[:, 0]
    assert scores == pytest.approx(logits.tolist(), abs=1e-5)
    assert AutoTokenizer.from_pretrained(folder).chat_template
    assert ours.std > 0


@pytest.mark.parametrize(
    "layers",
    [
        pytest.param("", marks=pytest.mark.slow),
        "trainable_layers = 0",
        pytest.param("trainable_layers = 1", marks=pytest.mark.slow),
    ],
)
def test_killed_and_resumed_equals_uninterrupted(kill_and_resume, recipe, layers):
    recipe.write_text(recipe.read_text().replace("[preference]\n", f"[preference]\n{layers}\n"))
    cut = kill_and_resume(recipe, 8, after=(4,), seed=layers)
    whole = cut.with_name("whole")
    for name in ("summary.json", "evaluations/step-000008.json"):
        one, other = (json.loads((run / name).read_text()) for run in (cut, whole))
        one.pop("train_seconds", None)
        other.pop("train_seconds", None)
        assert one == other


def test_a_frozen_backbone_is_forwarded_once_and_never_changes(charter, recipe, tmp_path, left, monkeypatch):
    from safetensors.torch import load_file

    from charter.model.load import Policy

    calls: list[int] = []
    hidden = Policy.hidden
    monkeypatch.setattr(
        Policy, "hidden", lambda self, tokens, *rest: calls.append(len(tokens)) or hidden(self, tokens, *rest)
    )
    run = tmp_path / "r"
    done = charter("train", recipe, "preference.trainable_layers=0", "--run-dir", run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    once = len(calls)
    # one verification of the loaded model, and one forward for each of the twelve prompts with all its replies
    assert once == 1 + 12
    assert all(row["tokens/forwarded"] == 0 for row in left.rows(run)[1:])
    first = load_file(next(Path(recipe.read_text().split('model = "')[1].split('"')[0]).glob("*.safetensors")))
    last = load_file(run / "latest" / "model" / "model.safetensors")
    assert all(torch.equal(first[name], last[name]) for name in first)
    assert last["score.weight"].abs().max() > 0
    # a run that goes on longer finds them
    calls.clear()
    again = charter(
        "train", recipe, "preference.trainable_layers=0", "run.steps=10", "--run-dir", run, "--resume", cwd=tmp_path
    )
    assert again.returncode == 0, again.stderr
    assert len(calls) == 1


def test_states_are_worked_out_once_however_often_the_run_is_interrupted(charter, recipe, tmp_path, monkeypatch):
    from charter.learner.preference import PreferenceLearner
    from charter.run import reference

    monkeypatch.setattr(reference, "PART_STEPS", 4)
    closing, asked = PreferenceLearner.closing, []

    def counted(self, trees):
        if len(asked) == 6:
            asked.append(None)
            raise KeyboardInterrupt
        asked.append(trees[0].prefix)
        return closing(self, trees)

    words = ["train", recipe, "preference.trainable_layers=0", "--run-dir"]
    assert charter(*words, tmp_path / "whole", cwd=tmp_path).returncode == 0
    with monkeypatch.context() as patch:
        patch.setattr(PreferenceLearner, "closing", counted)
        assert charter(*words, tmp_path / "cut", cwd=tmp_path).returncode != 0
        assert charter(*words, tmp_path / "cut", "--resume", cwd=tmp_path).returncode == 0
    first, second = asked[:6], asked[7:]
    assert len(second) == 12 - 4  # what one whole part had was not asked again; the part that was cut was
    assert set(first[:4]).isdisjoint(second)
    weights = [(tmp_path / name / "latest" / "model" / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_states_are_kept_under_the_model_they_are_of(charter, recipe, tmp_path, tiny_folder):
    words = ["preference.trainable_layers=0", "run.steps=2", "--run-dir", tmp_path / "r"]
    assert charter("train", recipe, *words, cwd=tmp_path).returncode == 0
    other = tiny_folder("llama", 9)
    (kept,) = (tmp_path / "r").glob("features-*")
    words[-1] = tmp_path / "s"
    assert charter("train", recipe, f"model={other}", *words, cwd=tmp_path).returncode == 0
    (new,) = (tmp_path / "s").glob("features-*")
    assert kept.name != new.name


def test_it_is_the_reward_of_every_method_that_samples(charter, recipe, grpo_recipe, tmp_path, left):
    """GRPO, PPO and online DPO against the same frozen preference model, alone or beside a rule."""
    pm = tmp_path / "pm"
    assert charter("train", recipe, "run.steps=30", "--run-dir", pm, cwd=tmp_path).returncode == 0
    weights = (pm / "latest" / "model" / "model.safetensors").read_bytes()
    text = grpo_recipe.read_text().replace('name = "rewards.py:early"', f'name = "preference"\nmodel = "{pm}"')
    ppo = text.replace('method = "grpo"', 'method = "ppo"').replace("[grpo]", "[ppo]\nminibatches = 1")
    online = text.replace('method = "grpo"', 'method = "dpo"')
    online = online.replace("[grpo]\nprompts_per_step = 4", "[dpo]\nonline = true\npairs_per_step = 4")
    mixed = text.replace("[grpo]", '[[rewards]]\nname = "rewards.py:early"\nweight = 0.5\n[grpo]')
    for name, body in (("grpo", text), ("ppo", ppo), ("online", online), ("mixed", mixed)):
        (tmp_path / f"{name}.toml").write_text(body)
        done = charter("train", tmp_path / f"{name}.toml", "run.steps=2", "--run-dir", tmp_path / name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found = left.rows(tmp_path / name)
        assert all("rewards/preference/mean" in row for row in found if row["step"] > 0), name
    assert all("rewards/early/mean" in row for row in found if row["step"] > 0)
    assert (pm / "latest" / "model" / "model.safetensors").read_bytes() == weights  # it never learns


def test_ppo_raises_the_score_of_a_preference_model(charter, recipe, grpo_recipe, tmp_path, left):
    pm = tmp_path / "pm"
    assert charter("train", recipe, "run.steps=30", "--run-dir", pm, cwd=tmp_path).returncode == 0
    text = grpo_recipe.read_text().replace('name = "rewards.py:early"', f'name = "preference"\nmodel = "{pm}"')
    text = text.replace('method = "grpo"', 'method = "ppo"').replace("[grpo]", "[ppo]\nkl_coef = 0.0")
    (tmp_path / "ppo.toml").write_text(text)
    done = charter(
        "train", tmp_path / "ppo.toml", "run.steps=24", "optimizer.learning_rate=5e-3", "sampling.group_size=8",
        "--run-dir", tmp_path / "r", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    curve = [row["reward"] for row in left.rows(tmp_path / "r") if row["step"] > 0]
    assert sum(curve[-4:]) > sum(curve[:4]) + 1.6  # 0.4 a step; 0.1 to 0.9 with one thread and with two


def test_a_reply_that_is_too_long_fails_by_name(charter, recipe, tmp_path):
    from charter.cli.reward_builders import reward_builders
    from charter.recipe.tables import RewardTable
    from charter.reward import as_group, build_rubric
    from charter.types import Prompt

    done = charter("train", recipe, "preference.max_tokens=40", "--run-dir", tmp_path / "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = RewardTable.model_validate({"name": "preference", "model": str(tmp_path / "r")})
    rubric = build_rubric([table], reward_builders())
    asked = Prompt(id="q", messages=({"role": "user", "content": "1"},))
    short, long = asyncio.run(rubric.score(as_group(asked, ["A", "A" * 60])))
    assert short.status == "scored"
    assert (long.status, long.value) == ("failed", None)
    assert "more than the 40 that the preference model was trained on" in long.note
    asyncio.run(rubric.close())


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ("preference.max_tokens=9", 2, "more than preference.max_tokens = 9"),
        ("data.held_out=12", 2, "data.held_out = 12 of 12 prompts leaves none to train on"),
        ("preference.trainable_layers=3", 1, "trainable_layers = 3, and the backbone has 2 layers"),
        ("preference.clamp=[0.6,0.4]", 2, "the range from 0.6 to 0.4 leaves no room"),
        ("preference.pairs_per_step=400", 2, "400"),
        ("data.pairs=nowhere.jsonl", 2, "nowhere.jsonl"),
    ],
)
def test_what_cannot_be_trained_is_told_and_leaves_no_run(charter, recipe, tmp_path, change, code, said):
    done = charter("train", recipe, change, "--run-dir", tmp_path / "r", cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert not (tmp_path / "r" / "recipe.toml").exists()


def test_a_rehearsal_says_what_is_held_out(charter, recipe, tmp_path):
    done = charter("train", recipe, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pairs      16 to train on, 8 held out, from" in done.stdout
