"""`charter compare`: whole comparisons of a tiny model, their record and their pages."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

RECIPE = """
method = "compare"
model = "{model}"
seeds = [1]
score = "reward"
[data]
prompts = "arithmetic:addition"
template = "{{question}}="
held_out = 8
size = 80
options = {{digits = 1}}
[sampling]
group_size = 4
max_new_tokens = 6
[[rewards]]
name = "rewards.py:early"
[eval]
temperatures = [1.0]
samples = 2
[budget]
tokens = 150
[methods.grpo]
grpo = {{prompts_per_step = 4}}
optimizer = {{learning_rate = 3e-3}}
[methods.ppo]
ppo = {{prompts_per_step = 4}}
optimizer = {{learning_rate = 3e-3}}
[methods.dpo]
dpo = {{pairs_per_step = 4}}
optimizer = {{learning_rate = 3e-3}}
[methods.rejection_sft]
rejection_sft = {{prompts_per_step = 4, per_prompt = 2}}
optimizer = {{learning_rate = 3e-3}}
"""

REWARD = """
def early(completions, **columns):
    return [sum(c.isdigit() for c in text[0]["content"]) / 6 for text in completions]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    (folder / "rewards.py").write_text(REWARD)
    (folder / "c.toml").write_text(RECIPE.format(model=tiny_folder("llama")))
    return folder


def charter(*words: object) -> Any:
    """`charter …` in this process: exit_code, stdout and what an error says."""
    from charter.cli.app import app
    from charter.errors import CharterError

    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit | CharterError):
        raise result.exception
    return result


def work_here(monkeypatch: pytest.MonkeyPatch, place: Path) -> list[tuple[str, str]]:
    """Do the children's work in this process, since each start loads torch anew; returns what is asked of them."""
    from charter.cli import compare_child, compare_measure
    from charter.cli.compare_processes import Processes

    asked: list[tuple[str, str]] = []

    def here(_: Processes, what: str, name: str, folder: Path) -> None:
        asked.append((what, name))
        if what == "train":
            assert compare_child.train(folder, name) == 0
        else:
            compare_measure.measure(folder, name)

    monkeypatch.setattr(Processes, "run", here)
    monkeypatch.setenv("CI", "1")
    monkeypatch.chdir(place)
    return asked


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, place: Path) -> list[tuple[str, str]]:
    return work_here(monkeypatch, place)


@pytest.fixture(scope="module")
def record(place: Path) -> dict[str, Any]:
    """One comparison of all four methods, carried out."""
    patch = pytest.MonkeyPatch()
    try:
        asked = work_here(patch, place)
        done = charter("compare", "c.toml", "--json")
        assert done.exit_code == 0, done.output
        assert len(asked) == 8
        return json.loads((place / "runs" / "c" / "compare.json").read_text())
    finally:
        patch.undo()


def test_the_record_has_its_fixed_keys(record):
    assert list(record["methods"]) == ["ppo", "dpo", "grpo", "rejection_sft"]
    wanted = {
        "peak_bytes", "bytes", "tokens_sampled", "flops", "seconds", "score", "score_interval", "models_resident",
    }  # fmt: skip
    for column in record["methods"].values():
        assert wanted <= column.keys()
        assert {"weights", "gradients", "optimizer_state", "activations", "cache"} <= column["bytes"].keys()
        assert column["score_interval"][0] <= column["score"] <= column["score_interval"][1]
        assert column["peak_bytes"] >= column["baseline_bytes"] > 0
        assert column["seconds"] == pytest.approx(sum(column["time"].values()))
        assert column["processor_seconds"] == pytest.approx(sum(column["processor_time"].values()))
        assert min(column["processor_time"]["sample"], column["processor_time"]["learn"]) > 0
        assert column["flops"] == pytest.approx(sum(column["flops_of"].values()))


def test_every_two_methods_are_compared_and_every_claim_is_answered(record):
    names = list(record["methods"])
    pairs = [(row["of"], row["over"]) for row in record["differences"]]
    assert pairs == [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    for row in record["differences"]:
        told = record["methods"][row["of"]]["score"] - record["methods"][row["over"]]["score"]
        assert row["difference"] == pytest.approx(told)
        assert row["interval_both"][0] <= row["difference"] <= row["interval_both"][1]
    assert len(record["claims"]) == 8


def test_each_method_holds_its_models(record):
    held = {name: [m["name"] for m in column["models_resident"]] for name, column in record["methods"].items()}
    assert held == {
        "ppo": ["policy", "critic", "reference"],
        "dpo": ["policy", "reference"],
        "grpo": ["policy"],
        "rejection_sft": ["policy"],
    }
    grpo, ppo = record["methods"]["grpo"]["bytes"], record["methods"]["ppo"]["bytes"]
    assert ppo["weights"] > 2.9 * grpo["weights"]  # three models, the critic without an output layer's use
    assert grpo["gradients"] * 2 == grpo["optimizer_state"]


def test_a_method_stops_with_the_step_that_spends_its_budget(record, place):
    for name, column in record["methods"].items():
        rows = [json.loads(line) for line in (place / f"runs/c/{name}-seed1/metrics.jsonl").read_text().splitlines()]
        sampled = [row["tokens/sampled"] for row in rows if row["step"] > 0]
        assert sum(sampled[:-1]) < 150 <= sum(sampled)
        assert column["budget"]["overshot"] == sum(sampled) - 150
        assert column["budget"]["reached"]
        assert column["steps"] == len(sampled)


def test_tokens_learnt_from_are_those_the_learner_counted(record, place):
    """The formula goes by what is stored; the learner counts what it forwards. No micro-batch is cut at this size."""
    for name, column in record["methods"].items():
        rows = [json.loads(line) for line in (place / f"runs/c/{name}-seed1/metrics.jsonl").read_text().splitlines()]
        forwarded = sum(row.get("tokens/forwarded", 0.0) for row in rows)
        assert column["tokens_backward"]["policy_learning"] == forwarded > 0


def test_held_out_prompts_are_judged_once_and_not_in_the_process_that_is_measured(record, place):
    for name in record["methods"]:
        assert not (place / f"runs/c/{name}-seed1/evaluations").exists()
    assert len(list((place / "runs/c/measured").glob("start-seed1.json"))) == 1


def test_the_start_is_the_same_for_every_method(record):
    assert len({column["score_before"] for column in record["methods"].values()}) == 1


def test_kl_from_the_start_is_0_before_learning(tiny_policy, tiny_folder):
    """On what the starting model itself drew, d is 0 up to rounding."""
    import asyncio

    from charter.cli.compare_measure import kl_from_start
    from charter.recipe import Recipe, SamplingTable
    from charter.sampler.local import LocalSampler
    from charter.types import Message, Prompt, Score, Scored

    policy = tiny_policy("llama")
    settings = SamplingTable(group_size=3, max_new_tokens=5)
    prompts = [Prompt(id=str(i), messages=(Message(role="text", content=f"{i}+1="),)) for i in range(3)]

    async def drawn() -> list[Scored]:
        groups = [group async for group in LocalSampler(policy, 0).sample(prompts, settings, 0)]
        return [Scored(group=g, scores=(Score(value=0.0, status="scored"),) * 3) for g in groups]

    scored = asyncio.run(drawn())
    recipe = Recipe(method="grpo", model="m")
    same = kl_from_start(scored, policy, recipe, 1.0)
    assert same["k1"] == pytest.approx(0, abs=1e-5)
    assert same["k3"] == pytest.approx(0, abs=1e-5)
    assert same["tokens"] == sum(len(r.tokens) for s in scored for r in s.group.rollouts)
    other = kl_from_start(scored, tiny_policy("llama", seed=1), recipe, 1.0)
    assert other["k3"] > 0.01
    assert other["k1_per_completion"] == pytest.approx(other["k1"] * other["tokens"] / 9)


def test_what_is_finished_is_not_repeated(record, in_process, place):
    before = (place / "runs/c/compare.json").read_text()
    assert charter("compare", "c.toml").exit_code == 0
    assert in_process == []
    again = json.loads((place / "runs/c/compare.json").read_text())
    assert again["methods"] == json.loads(before)["methods"]


def test_the_record_says_which_runs_were_under_way_side_by_side(record, in_process, place):
    """Of the runs as they were made, not of the call that reads them again."""
    one = "1 seed: the spread over seeds is not known, and differences between methods may be luck; three or more tell"
    again = json.loads(charter("compare", "c.toml", "--at-once", "2", "--json").stdout)
    assert in_process == []
    assert again["notes"] == record["notes"] == [one]
    file = place / "runs" / "c" / "measured" / "dpo-seed1.json"
    told = json.loads(file.read_text())
    assert told["at_once"] == 1
    file.write_text(json.dumps({**told, "at_once": 2}))
    note = json.loads(charter("compare", "c.toml", "--json").stdout)["notes"][1]
    assert note.startswith("2 runs were under way side by side: the clock's time of each is longer than alone")
    file.write_text(json.dumps(told))


def test_seconds_are_not_shared_by_runs_side_by_side(place, monkeypatch):
    monkeypatch.chdir(place)
    (place / "timed.toml").write_text((place / "c.toml").read_text().replace("tokens = 150", "seconds = 5"))
    done = charter("compare", "timed.toml", "--at-once", "2")
    assert done.exit_code != 0
    assert "runs side by side would learn less in the same time" in str(done.exception)


CHILD = """#!/bin/sh
# stands for `python -m charter.cli.compare_child WHAT FOLDER NAME`
echo "$OMP_NUM_THREADS" > "$4/$5.threads"
trap 'echo asked > "$4/$5.asked"; exit {stopped}' TERM
case "$5" in
  broken) exit 7 ;;
  long) touch "$4/ready"; for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 0.2; done ;;
esac
"""


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Processes start a shell script in the place of Python."""
    from charter.cli import compare_processes

    script = tmp_path / "child"
    script.write_text(CHILD.format(stopped=compare_processes.STOPPED))
    script.chmod(0o755)
    monkeypatch.setattr(compare_processes.sys, "executable", str(script))
    monkeypatch.setattr(compare_processes, "cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return compare_processes.Processes


def test_runs_side_by_side_have_their_share_of_the_cores(stand_in, tmp_path, monkeypatch):
    stand_in(2).run("train", "short", tmp_path)
    assert (tmp_path / "short.threads").read_text() == "3\n"
    stand_in(1).run("train", "alone", tmp_path)
    assert (tmp_path / "alone.threads").read_text() == "\n"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    stand_in(2).run("train", "asked", tmp_path)
    assert (tmp_path / "asked.threads").read_text() == "1\n"


def test_a_process_that_fails_is_named(stand_in, tmp_path):
    from charter.errors import RunError

    with pytest.raises(RunError, match=r"broken failed while it was to train \(exit code 7"):
        stand_in().run("train", "broken", tmp_path)


def test_a_signal_is_passed_on_and_nothing_more_is_begun(stand_in, tmp_path):
    from charter.errors import RunError

    def signal_when_ready() -> None:
        deadline = time.monotonic() + 20
        while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    processes = stand_in()
    threading.Thread(target=signal_when_ready).start()
    with processes.passing_on():
        with pytest.raises(RunError, match="stopped in long, everything saved"):
            processes.run("train", "long", tmp_path)
        with pytest.raises(RunError, match="stopped in next"):
            processes.run("train", "next", tmp_path)
    assert (tmp_path / "long.asked").exists()
    assert not (tmp_path / "next.threads").exists()


def test_side_by_side_means_at_the_same_time_and_a_failure_lets_no_more_begin():
    from charter.cli.compare_runs import side_by_side

    begun: list[int] = []
    both = threading.Barrier(2, timeout=20)

    def run(number: int, job: str) -> None:
        begun.append(number)
        if number <= 2:
            both.wait()  # neither gets past here alone
        if number == 3:
            raise RuntimeError(f"{job} broke")
        if number > 3:
            time.sleep(0.2)

    side_by_side(run, ["a", "b"], 2)
    assert sorted(begun) == [1, 2]
    begun.clear()
    with pytest.raises(RuntimeError, match="c broke"):
        side_by_side(run, list("abc") + ["d"] * 20, 2)
    assert len(begun) < 10


def test_another_seed_is_added_to_what_is_there(record, in_process, place):
    done = charter("compare", "c.toml", "seeds=[1,2]", "--json")
    assert done.exit_code == 0, done.output
    assert {name.removesuffix("-seed2") for _, name in in_process} == set(record["methods"])
    both = json.loads(done.stdout)
    assert both["methods"]["grpo"]["seeds"] == [1, 2]
    assert both["methods"]["grpo"]["score_by_seed"][0] == record["methods"]["grpo"]["score"]
    # what follows sees the comparison of one seed again
    assert charter("compare", "c.toml").exit_code == 0


def test_another_recipe_is_refused_for_the_same_folder(record, in_process, place):
    done = charter("compare", "c.toml", "budget.tokens=151")
    assert done.exit_code == 1
    assert "was begun under other keys or another budget" in str(done.exception)
    assert in_process == []


def test_the_runs_are_ordinary_runs(record, place, monkeypatch):
    monkeypatch.chdir(place)
    for name in record["methods"]:
        shown = charter("show", f"runs/c/{name}-seed1")
        assert shown.exit_code == 0
        assert name in shown.output


def test_render_makes_the_pages_from_the_record_alone(record, tmp_path):
    (tmp_path / "compare.json").write_text(json.dumps(record))
    (tmp_path / "page.md").write_text("before\n<!-- comparison: begin -->\nold\n<!-- comparison: end -->\nafter\n")
    done = charter("compare", "--render", tmp_path, "--into", tmp_path / "page.md")
    assert done.exit_code == 0, done.output
    text, page = (tmp_path / "compare.md").read_text(), (tmp_path / "compare.html").read_text()
    grpo = record["methods"]["grpo"]
    shown = f"{grpo['score']:.3f} [{grpo['score_interval'][0]:.3f}, {grpo['score_interval'][1]:.3f}]"
    assert shown in text
    assert shown in page
    for one in record["claims"]:
        assert one["here"] in text
        assert one["verdict"] in page
    assert "PPO (RLHF) − GRPO" in text
    assert page.count("<svg") == 12  # six plots, each for a wide page and a phone
    assert not re.search(r"(src|href)=|url\(|@import", page)  # nothing from elsewhere
    told = (tmp_path / "page.md").read_text()
    assert told.startswith("before\n<!-- comparison: begin -->\n")
    assert told.endswith("<!-- comparison: end -->\nafter\n")
    assert shown in told
    assert "old" not in told.split("before")[1].split("Every method")[0]


def test_hostile_names_are_escaped(record):
    from charter.cli.compare_page import html, markdown

    bad = copy.deepcopy(record)
    bad["model"] = "<script>alert(1)</script>"
    assert "<script>" not in html(bad)
    bad["methods"]["grpo"]["cannot_use"]["why"] = "a | b"
    assert "a \\| b" in markdown(bad)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "does not exist"), ("{", "is not JSON"), ("{}", 'expected a table "methods"'), ("[]", "is not the record")],
)
def test_a_record_that_is_none_is_refused(tmp_path, content, said):
    if content is not None:
        (tmp_path / "compare.json").write_text(content)
    done = charter("compare", "--render", tmp_path)
    assert done.exit_code == 1
    assert said in str(done.exception)


def test_markers_that_are_missing_are_named(record, tmp_path):
    (tmp_path / "compare.json").write_text(json.dumps(record))
    (tmp_path / "page.md").write_text("no markers")
    done = charter("compare", "--render", tmp_path, "--into", tmp_path / "page.md")
    assert "<!-- comparison: begin -->" in str(done.exception)
    assert (tmp_path / "page.md").read_text() == "no markers"


def test_dry_run_says_what_would_run(place, monkeypatch):
    monkeypatch.chdir(place)
    done = charter("compare", "c.toml", "seeds=[4,5]", "--run-dir", "other", "--dry-run", "--json")
    names = [job["name"] for job in json.loads(done.stdout)]
    assert names[:5] == ["ppo-seed4", "dpo-seed4", "grpo-seed4", "rejection_sft-seed4", "ppo-seed5"]
    assert not (place / "other").exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("budget.seconds=3", "there are two budgets"),
        ("seeds=[]", "there is no seed"),
        ("seeds=[1,1]", "stands twice"),
        ("methods.grpo.optimizer.schedule=linear", "the budget ends a method"),
        ("methods.ppo.seed=3", "cannot have its own seed"),
        ("methods.ppo.eval.samples=3", "judged in its own way"),
        ("methods.dpo.data.pairs=x.jsonl", "samples nothing"),
        ("methods.ppo.ppo.minibatches=1000", "1000 minibatches cannot be made"),
        ("methods.gpo.seed=1", "Did you mean 'grpo'"),
        ("data.held_out=0", "no prompts are held out"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused(place, monkeypatch, override, said):
    monkeypatch.chdir(place)
    done = charter("compare", "c.toml", override, "--dry-run")
    assert done.exception.exit_code == 2
    assert said in str(done.exception)


def test_a_training_recipe_is_sent_to_its_own_verb(place, monkeypatch):
    monkeypatch.chdir(place)
    done = charter("compare", Path(__file__).parents[2] / "recipes" / "quickstart.toml", "--dry-run")
    assert "charter train" in str(done.exception)


def test_spent_and_reached():
    from charter.cli.compare_child import reached, spent

    rows = [{"step": 0, "eval/accuracy": 0.1}, {"step": 1, "tokens/sampled": 10.0, "time/step_s": 2.0}] * 2
    assert spent(rows) == {"tokens": 20.0, "seconds": 4.0}
    assert reached(rows, {"tokens": 20, "seconds": None})
    assert not reached(rows, {"tokens": 21, "seconds": None})
    assert reached(rows, {"tokens": None, "seconds": 3.9})


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ppo", "dpo", "grpo", "rejection_sft"])
def test_killed_in_a_child_it_goes_on(place, tmp_path, method):
    """The comparison and its child are killed after a step; the same command leaves what an unbroken one does."""
    others = [name for name in ("ppo", "dpo", "grpo", "rejection_sft") if name != method]
    text = (place / "c.toml").read_text()
    for name in others:
        text = re.sub(rf"\[methods\.{name}\]\n.*\n.*\n", "", text)
    text = text.replace("tokens = 150", "tokens = 700")
    (tmp_path / "one.toml").write_text(text)
    (tmp_path / "rewards.py").write_text(REWARD)
    words = [sys.executable, "-m", "charter.cli.app", "compare", "one.toml", "--run-dir"]
    environment = {**os.environ, "CI": "1"}

    def run(folder: str) -> None:
        subprocess.run([*words, folder], cwd=tmp_path, env=environment, check=True, capture_output=True)

    run("whole")
    cut = subprocess.Popen([*words, "cut"], cwd=tmp_path, env=environment, start_new_session=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    metrics = tmp_path / "cut" / f"{method}-seed1" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (metrics.is_file() and metrics.read_text().count("\n") >= 4):
        time.sleep(0.01)
    os.killpg(cut.pid, signal.SIGKILL)
    cut.wait()
    assert not (tmp_path / "cut" / "compare.json").exists()
    run("cut")
    whole, mended = (
        json.loads((tmp_path / name / "measured" / f"{method}-seed1.json").read_text()) for name in ("whole", "cut")
    )
    for key in ("steps", "tokens_sampled", "flops", "passes", "usage", "rewards", "kl", "updates"):
        assert whole[key] == mended[key], key
