"""`charter calibrate`, `label` and `constitution ablate` as a user meets them, with scripted models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from charter.cli import constitution_ablate
from charter.cli.app import app
from charter.cli.cai_report import report_of
from charter.cli.cai_run import open_cai_run
from charter.cli.human_pairs import chosen_pairs, human_pairs
from charter.cli.report_page import report_html
from charter.data import load_pairs
from charter.data.ratings import as_jsonl
from charter.errors import DataError, RunError, UsageError
from charter.recipe import DataTable, load_cai_recipe

RECIPE = """
method = "cai"
model = "nobody"
[constitution]
file = "two.toml"
[redteam]
prompts = "prompts.txt"
count = 6
held_out = 2
helpful_count = 0
[author]
backend = "scripted"
script = "author.jsonl"
[judge]
backend = "scripted"
script = "judge.jsonl"
mode = "cot"
ensemble = "all"
[calibrate]
data = "human.jsonl"
resamples = 200
[label]
max_new_tokens = 50
[arena]
helpful = 0
"""
CONSTITUTION = """
name = "two"
version = "1"
[[principle]]
id = "kind"
text = "Be kind."
[[principle]]
id = "calm"
text = "Be calm."
"""
GOOD, BAD = "Let us find a kind way to do this, step by step.", "Just hit it."


def judge_rows(*rows: dict[str, Any]) -> str:
    return as_jsonl(rows)


SOUND = judge_rows(
    {"regex": r"<reply_a>\nJust", "reply": "It is rude.\nVerdict: B"},
    {"regex": r"<reply_a>\nLet us", "reply": "It is kind.\nVerdict: A"},
)
ALWAYS_A = judge_rows({"reply": "Verdict: A"})
MUTE = judge_rows({"reply": "Lorem ipsum dolor sit amet."})
REFUSING = judge_rows({"reply": "I'm sorry, but I cannot help with that."})


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("".join(f"How do I break {'abcdefghij'[n] * 3}?\n" for n in range(8)))
    (tmp_path / "two.toml").write_text(CONSTITUTION)
    # the better reply is the longer one, so that a good judge beats `shorter wins`
    turns = [[{"role": "user", "content": f"prompt {n}"}] for n in range(40)]
    rows = [
        {"prompt": turn, "chosen": f"{GOOD} {n}", "rejected": f"{BAD} {n}", "p": 0.9} for n, turn in enumerate(turns)
    ]
    (tmp_path / "human.jsonl").write_text(as_jsonl(rows))
    (tmp_path / "author.jsonl").write_text(as_jsonl([{"reply": [GOOD, BAD, f"{GOOD} Yes.", f"{BAD} Yes."]}]))
    (tmp_path / "judge.jsonl").write_text(SOUND)
    path = tmp_path / "quick.toml"
    path.write_text(RECIPE)
    return path


def charter(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def calibrated(*words: str) -> dict[str, Any]:
    done = charter("calibrate", "quick.toml", "--json", *words)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_sound_judge_passes_labels_and_is_ablated(recipe: Path, tmp_path: Path):
    found = calibrated()
    assert found["passed"], found["verdict"]
    assert (found["n"], found["prompts"], found["statuses"]) == (40, 40, {"ok": 160})
    judge = found["judges"][0]
    assert (judge["accuracy"], judge["keeps_slot"], judge["position_gap"]) == (1.0, 0.0, 0.0)
    # clamped to 0.6: (0.6 − 1)²
    assert judge["brier"] == pytest.approx(0.16)
    assert json.loads((tmp_path / "runs/quick/calibration.json").read_text()) == found
    text = charter("calibrate", "quick.toml")
    assert "40 pairs of " in text.stdout
    assert "shorter wins" in text.stdout
    assert "passes: right on 100.0%" in text.stdout

    done = charter("label", "quick.toml", "--json")
    assert done.exit_code == 0, done.output
    counts = json.loads(done.stdout)
    rows = [json.loads(line) for line in Path("runs/quick/preferences.jsonl").read_text().splitlines()]
    assert counts["rows"] == len(rows) == counts["judged"]
    assert counts["judged"] + sum(counts["left_out"].values()) + counts["identical"] == counts["prompts"] == 6
    assert rows
    for row in rows:
        assert set(row) == {"id", "prompt", "chosen", "rejected", "p", "margin"}
        assert row["p"] == 0.6
        assert row["chosen"][0]["content"].startswith("Let us")
        assert row["rejected"][0]["content"].startswith("Just")
    loaded = load_pairs(DataTable(pairs="runs/quick/preferences.jsonl"), 0)
    assert len(loaded.train.items) == len(rows)
    assert json.loads(Path("runs/quick/label.json").read_text()) == counts
    before = Path("runs/quick/records.jsonl").read_bytes()
    assert charter("label", "quick.toml").exit_code == 0
    assert Path("runs/quick/records.jsonl").read_bytes() == before

    records = constitution_ablate.judged_records(Path("runs/quick"))
    assert {row["kind"] for row in records} >= {"judgement", "completion"}
    table = constitution_ablate.render(constitution_ablate.ablated("quick.toml"))
    assert "kind" in table
    assert "0 (0%)" in table
    assert constitution_ablate.ablated("runs/quick") == constitution_ablate.ablated("quick.toml")


def test_human_pairs_are_mixed_in(recipe: Path):
    calibrated()
    done = charter("label", "quick.toml", "--json", "label.human=human.jsonl", "label.human_weight=0.5")
    counts = json.loads(done.stdout)
    assert counts["human"] == counts["judged"] > 0
    assert counts["human_share"] == 0.5
    assert charter("label", "quick.toml", "label.labels=hard").exit_code == 0
    rows = [json.loads(line) for line in Path("runs/quick/preferences.jsonl").read_text().splitlines()]
    assert {row["p"] for row in rows} == {1.0}


@pytest.mark.parametrize(
    ("script", "measured"),
    [
        (ALWAYS_A, "it keeps the same slot on 100% of the comparisons when the two replies change places"),
        (MUTE, "it gave no answer that could be read on any of 40 pairs"),
        (REFUSING, "it gave no answer that could be read on any of 40 pairs"),
    ],
)
def test_a_broken_judge_is_refused_and_makes_no_label(recipe: Path, script, measured):
    Path("judge.jsonl").write_text(script)
    found = calibrated()
    assert not found["passed"]
    assert measured in found["verdict"]
    for words in ((), ("--allow-uncalibrated",)):
        done = charter("label", "quick.toml", *words)
        assert isinstance(done.exception, RunError)
        said = str(done.exception)
        if words:
            assert "no label came of" in said
            assert ("undecided" if script == ALWAYS_A else "refused" if script == REFUSING else "unparsed") in said
        else:
            assert "the judge may not label" in said
            assert measured in said
            assert "No label was made" in said
        assert not Path("runs/quick/preferences.jsonl").exists()
    done = charter("label", "quick.toml", "--json", "label.if_refused=human", "label.human=human.jsonl")
    counts = json.loads(done.stdout)
    # the same file measured the judge: only the pairs of its prompts that are for training, 26 of 40, are learnt from
    assert (counts["labelled_by"], counts["human"], counts["rows"]) == ("human", 26, 26)
    assert measured in counts["verdict"]


def test_a_judge_that_was_not_measured_may_not_label(recipe: Path):
    calibrated()
    with Path("two.toml").open("a") as file:
        file.write('[[principle]]\nid = "more"\ntext = "Be more."\n')
    said = str(charter("label", "quick.toml").exception)
    assert "was not measured against people as it is asked here" in said
    Path("runs/quick/calibration.json").unlink()
    assert "was not measured against people yet" in str(charter("label", "quick.toml").exception)
    assert isinstance(charter("label", "quick.toml", "label.if_refused=human").exception, UsageError)


def test_calibration_asks_no_pair_twice_and_several_modes_live_in_one_folder(recipe: Path):
    calibrated()
    size = Path("runs/quick/calibration/records.jsonl").stat().st_size
    calibrated()
    assert Path("runs/quick/calibration/records.jsonl").stat().st_size == size
    assert calibrated("judge.ensemble=one", "calibrate.pairs=10")["n"] == 10
    found = calibrated("judge.clamp=[0.0,1.0]")
    assert found["judges"][0]["brier"] == 0.0


def test_a_damaged_calibration_is_named(recipe: Path):
    calibrated()
    Path("runs/quick/calibration.json").write_text("{")
    assert "calibration.json is no calibration" in str(charter("label", "quick.toml").exception)


def test_ablation_of_nothing_says_what_to_do(recipe: Path):
    with pytest.raises(UsageError, match="holds no records"):
        constitution_ablate.ablated("quick.toml")


def test_pairs_of_a_file(recipe: Path):
    pairs = human_pairs("human.jsonl")
    assert len(pairs) == 40
    assert len(human_pairs("human.jsonl", part="train")) + len(human_pairs("human.jsonl", part="evaluation")) <= 40
    some = chosen_pairs(pairs, 7)
    assert len(some) == 7
    assert list(some) == sorted(some)
    assert chosen_pairs(pairs, None) == tuple(range(40))
    assert set(some) <= set(chosen_pairs(pairs, 9))
    with pytest.raises(DataError, match="no such file"):
        human_pairs("nothing.jsonl")


def test_the_judge_is_a_reward_by_name(recipe: Path):
    Path("rater.jsonl").write_text(judge_rows({"match": "Let us", "reply": "9"}, {"reply": "I would rather not say."}))
    Path("rows.jsonl").write_text(as_jsonl([{"prompt": "How?", "completion": text} for text in (GOOD, BAD)]))
    options = ("backend=scripted", "script=rater.jsonl", "constitution=two.toml")
    words = [word for option in options for word in ("--option", option)]
    done = charter("reward", "test", "judge", "--data", "rows.jsonl", "--json", *words)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["score"], row["status"]) for row in rows] == [(pytest.approx(7 / 9), "scored"), (None, "failed")]
    assert "because it refused: I would rather not say." in rows[1]["note"]
    bare = charter("reward", "test", "judge", "--data", "rows.jsonl", "--option", "constitution=two.toml")
    assert bare.exit_code == 2
    assert "model is missing" in bare.output


def test_the_shipped_principles_are_a_reward_by_name(recipe: Path):
    Path("rows.jsonl").write_text(as_jsonl([{"prompt": "How?", "completion": text} for text in (GOOD, BAD)]))
    done = charter("reward", "test", "principles", "--data", "rows.jsonl", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["status"] for row in rows] == ["scored", "scored"]
    assert all(0 <= row["score"] <= 1 for row in rows)


def test_the_ablation_of_a_run_as_a_command(recipe: Path):
    calibrated()
    done = charter("constitution", "ablate", "quick.toml", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["pairs"], [row["flips"] for row in found["principles"]]) == (40, [0, 0])
    assert "flips: labels that change sides" in charter("constitution", "ablate", "runs/quick").stdout


def test_the_report_says_what_each_principle_brings(recipe: Path):
    # "calm" always says the contrary of "kind": together they are undecided, and either one alone is not
    contrary = judge_rows(
        {"regex": r"(?s)<reply_a>\nLet us.*Be calm", "reply": "Verdict: B"},
        {"regex": r"(?s)<reply_a>\nJust.*Be calm", "reply": "Verdict: A"},
    )
    Path("judge.jsonl").write_text(contrary + SOUND)
    calibrated()
    loaded = load_cai_recipe(recipe)
    with open_cai_run(loaded, Path("runs/quick")) as run:
        report = report_of(run, [])
    assert "flips the share of judged pairs" in report_html(report)
    assert {row["id"]: (row["agreement"], row["flips"], row["judged"]) for row in report["principles"]} == {
        "kind": (0.0, 1.0, 40),
        "calm": (0.0, 1.0, 40),
    }
    one = load_cai_recipe(recipe, ["judge.ensemble=one"])
    with open_cai_run(one, Path("runs/other")) as run:
        assert report_of(run, [])["principles"] is None
