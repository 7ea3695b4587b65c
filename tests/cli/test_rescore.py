"""`charter reward rescore`: stored completions under another reward, and which advantages change sign."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from charter.cli.rescore import command, parse_steps
from charter.errors import CharterError, DataError, StoreError, UsageError
from charter.run.store import RunStore
from charter.types import Group, Prompt, Rollout, Score, Scored, Update

app = typer.Typer()
app.command()(command)

RECIPE = """method = "grpo"
model = "none"
[data]
prompts = "{data}"
held_out = 0
[sampling]
group_size = 4
max_new_tokens = 8
[[rewards]]
name = "exact"
[grpo]
advantage = "{advantage}"
prompts_per_step = 1
[run]
steps = 2
"""
ROWS = [{"id": "one", "prompt": "1+1=", "answer": "2"}, {"id": "two", "prompt": "2+2=", "answer": "4"}]
TEXTS = {"one": ["2", "3", "4", "5"], "two": ["4", "\x1b[31m4", "22", "4"]}


def group(name: str, step: int, rewards: list[float | None]) -> Scored:
    asked = next(row["prompt"] for row in ROWS if row["id"] == name)
    prompt = Prompt(id=name, messages=({"role": "text", "content": asked},))
    rollouts = tuple(
        Rollout(
            prompt_id=name, index=i, tokens=tuple(range(len(text))), logprobs=(-1.0,) * len(text), text=text,
            stop="eos", version=step - 1,
        )
        for i, text in enumerate(TEXTS[name])
    )  # fmt: skip
    scores = tuple(
        Score(value=r, parts={"exact": r}) if r is not None else Score(value=None, status="failed", note="gone")
        for r in rewards
    )
    return Scored(group=Group(prompt=prompt, rollouts=rollouts, step=step), scores=scores)


def make(folder: Path, *, rewards: list[float | None] | None = None, advantage: str = "center") -> Path:
    """Two steps of one group of four: rewards 1 0 0 0 (advantages .75 −.25 ×3) and 1 0 0 1 (±.5)."""
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    first = rewards or [1.0, 0.0, 0.0, 0.0]
    with RunStore.create(folder / "run", RECIPE.format(data=data, advantage=advantage), {}) as store:
        store.append_metrics({"step": 1, "reward": 0.25})
        one = (0.75, -0.25, -0.25, -0.25)
        store.write_rollouts(Update(step=1, version=1, metrics={}, scored=(group("one", 1, first),), advantages=(one,)))
        two = (0.5, -0.5, -0.5, 0.5)
        scored = group("two", 2, [1.0, 0.0, 0.0, 1.0])
        store.write_rollouts(Update(step=2, version=2, metrics={}, scored=(scored,), advantages=(two,)))
    return folder / "run"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(tmp_path)


def run(*words: object) -> Any:
    return CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)


def data_of(*words: object) -> tuple[dict[str, Any], int]:
    result = run(*words, "--json")
    return json.loads(result.output), result.exit_code


def fails(kind: type[CharterError], match: str, *words: object) -> None:
    with pytest.raises(kind, match=match):
        run(*words)


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_runs_own_rewards_are_the_stored_ones_and_nothing_is_written(folder: Path) -> None:
    before = fingerprint(folder)
    found, code = data_of(folder)
    assert code == 0
    assert {key: found[key] for key in found if key.endswith("changed") or key in ("failed", "completions")} == {
        "completions": 8, "failed": 0, "rewards_changed": 0, "advantages_changed": 0, "signs_changed": 0,
    }  # fmt: skip
    assert found["examples"] == []
    assert found["steps"] == [1, 2]
    assert found["mean_old"] == found["mean_new"] == 3 / 8
    assert fingerprint(folder) == before


def test_a_reward_that_is_not_the_stored_one_is_told_and_exits_with_1(tmp_path: Path) -> None:
    folder = make(tmp_path, rewards=[0.0, 0.0, 1.0, 0.0])  # stored otherwise than `exact` gives
    found, code = data_of(folder)
    assert code == 1
    assert found["rewards_changed"] == 2
    moved = {e["index"]: (e["reward_old"], e["reward_new"]) for e in found["examples"]}
    assert moved == {0: (0.0, 1.0), 2: (1.0, 0.0)}


def test_another_reward_and_the_signs_it_turns(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "mine.py"
    source.write_text(
        "def large(completions, answer):\n    return [float(len(c) > 1 or c > '4') for c in completions]\n"
    )
    found, code = data_of(folder, "--reward", f"{source}:large")
    assert code == 0
    # step 1 "2345" → 0 0 0 1: advantages −.25 −.25 −.25 .75; the first turns from .75, the last from −.25
    # step 2 "4", ESC…4, "22", "4" → 0 1 1 0: advantages −.5 .5 .5 −.5, all four turned
    assert (found["rewards_changed"], found["advantages_changed"]) == (6, 6)
    assert (found["signs_changed"], found["signs_flipped"]) == (6, 6)
    assert (found["mean_old"], found["mean_new"]) == (3 / 8, 3 / 8)
    first = {e["index"]: e for e in found["examples"] if e["step"] == 1}
    assert {i: (e["advantage_old"], e["advantage_new"]) for i, e in first.items()} == {
        0: (0.75, -0.25),
        3: (-0.25, 0.75),
    }
    sizes = [abs(e["advantage_new"] - e["advantage_old"]) for e in found["examples"]]
    assert sizes == [1.0] * 6
    assert set(found["examples"][0]) == {
        "step", "prompt_id", "index", "reward_old", "reward_new", "advantage_old", "advantage_new", "status", "note",
        "text",
    }  # fmt: skip


def test_the_runs_estimator_is_used(tmp_path: Path) -> None:
    folder = make(tmp_path, advantage="leave_one_out")
    found, _ = data_of(folder, "--steps", "1")
    # leave_one_out of 1 0 0 0 is 4/3 · (.75, −.25, …) = (1, −1/3, …); the stored ones were those of `center`
    assert found["advantages_changed"] == 4
    assert found["rewards_changed"] == 0
    changes = [(e["advantage_old"], round(e["advantage_new"], 6)) for e in found["examples"]]
    assert changes == [(0.75, 1.0), *[(-0.25, -0.333333)] * 3]


def test_steps_options_and_the_text(folder: Path) -> None:
    found, _ = data_of(folder, "--reward", "length", "--option", "max=1", "--steps", "2:2")
    assert (found["steps"], found["completions"]) == ([2, 2], 4)
    shown = run(folder, "--reward", "length", "--option", "max=1", "--limit", 2).output
    assert "8 completions under length" in shown
    assert "\x1b" not in shown  # what a model wrote is shown, not obeyed
    assert r"\x1b[31m4" in run(folder, "--reward", "length", "--option", "max=8", "--limit", 20).output
    assert "and " in shown
    assert "more; see them with --limit" in shown


def test_a_recipes_rewards(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    both = '\n[[rewards]]\nname = "length"\nweight = 0.5\nmax = 8\n'
    other.write_text(RECIPE.format(data=tmp_path / "rows.jsonl", advantage="center") + both)
    found, code = data_of(folder, "--reward", other, "--steps", "1")
    # every text is one token, within max: + .5 for all, so the rewards change and the advantages do not
    assert (code, found["rewards_changed"], found["advantages_changed"]) == (0, 4, 0)
    assert found["mean_new"] == 0.75
    fails(UsageError, "--option belongs to a reward's name", folder, "--reward", other, "--option", "a=1")


def test_a_reward_that_fails_is_counted_and_never_a_zero(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "mine.py"
    source.write_text("def f(text):\n    return None if text == '3' else 1 / (text != '2')\n")
    found, code = data_of(folder, "--reward", f"{source}:f", "--steps", "1")
    assert (code, found["failed"], found["abstained"]) == (1, 1, 1)
    gone = {e["index"]: (e["status"], e["reward_new"], e["advantage_new"]) for e in found["examples"]}
    assert gone[0] == ("failed", None, None)
    assert gone[1] == ("abstained", None, None)
    assert found["mean_new"] == 1.0


def test_stored_scores_that_failed_come_back(tmp_path: Path) -> None:
    folder = make(tmp_path, rewards=[1.0, None, 0.0, 0.0])
    found, _ = data_of(folder, "--steps", "1")
    changed = {e["index"]: (e["reward_old"], e["reward_new"]) for e in found["examples"]}
    assert changed[1] == (None, 0.0)
    assert found["mean_old"] == pytest.approx(1 / 3)


def test_columns_that_cannot_be_had(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    text = data.read_text()
    fails(DataError, "needs the column 'gold'", folder, "--reward", "exact", "--option", "answer=gold")
    data.write_text(text.splitlines()[0] + "\n")
    fails(DataError, r"1 of the 2 prompts .* not in .*rows.jsonl any more \(for example two\)", folder)
    assert data_of(folder, "--steps", "1")[1] == 0  # what is still there can be scored
    data.unlink()
    fails(DataError, "the reward needs the columns 'answer'.*cannot be read again", folder)
    found, code = data_of(folder, "--reward", "length", "--option", "max=8")  # needs no column
    assert code == 0
    gone = f"the run's data ({data}) cannot be read again; rewards see the stored prompts without columns"
    assert found["notes"] == [gone]


def test_bad_requests(folder: Path, tmp_path: Path) -> None:
    fails(StoreError, "is not a run", tmp_path / "none")
    fails(UsageError, "there is no reward 'exat'", folder, "--reward", "exat")
    fails(UsageError, r"stored are steps 1 to 2", folder, "--steps", "7:9")
    with pytest.raises(UsageError, match="no stored completions"):
        parse_steps(None, [])
    (folder / "recipe.toml").write_text('method = "sft"\nmodel = "m"\n[data]\nexamples = "x.jsonl"\n')
    fails(UsageError, "a run of method 'sft' that sampled nothing", folder)


@pytest.mark.parametrize(
    ("text", "steps"), [(None, [1, 2, 5]), ("2", [2]), ("2:", [2, 5]), (":2", [1, 2]), ("2:4", [2]), ("1:9", [1, 2, 5])]
)
def test_which_steps(text: str | None, steps: list[int]) -> None:
    assert parse_steps(text, [1, 2, 5]) == steps


@pytest.mark.parametrize("text", ["", ":", "a", "1:b", "-1", "1:2:3", "3:1"])
def test_steps_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--steps"):
        parse_steps(text, [1, 2, 5])


def of_method(folder: Path, method: str) -> Path:
    """The run, as another method would have left it."""
    made = make(folder)
    text = (made / "recipe.toml").read_text().replace('method = "grpo"', f'method = "{method}"')
    table = {"dpo": "[dpo]\nonline = true\n", "rejection_sft": "[rejection_sft]\nper_prompt = 1\n", "ppo": ""}[method]
    (made / "recipe.toml").write_text(text + table)
    return made


def test_a_run_of_ppo_has_its_rewards_compared(tmp_path: Path) -> None:
    found, code = data_of(of_method(tmp_path, "ppo"), "--reward", "exact")
    assert code == 0
    assert found["rewards_changed"] == found["advantages_changed"] == found["signs_changed"] == 0
    assert any("critic" in note for note in found["notes"])
    source = tmp_path / "mine.py"
    source.write_text("def none(completions):\n    return [0.0 for c in completions]\n")
    found, _ = data_of(tmp_path / "run", "--reward", f"{source}:none")
    # three of eight were right; without the critic of that step there is no advantage to compare
    assert (found["rewards_changed"], found["advantages_changed"]) == (3, 0)


def test_a_run_of_pairs_shows_which_pairs_turn(tmp_path: Path) -> None:
    made = of_method(tmp_path, "dpo")
    source = tmp_path / "mine.py"
    source.write_text(
        "def large(completions, answer):\n    return [float(len(c) > 1 or c > '4') for c in completions]\n"
    )
    found, code = data_of(made, "--reward", f"{source}:large")
    assert code == 0
    # step 1: rewards 1 0 0 0 make the pair (0, 1); 0 0 0 1 makes (3, 0): completion 0 turns, 1 and 3 enter or leave
    # step 2: rewards 1 0 0 1 make (0, 1); 0 1 1 0 makes (1, 0): both turn
    assert (found["signs_changed"], found["signs_flipped"]) == (3 + 2, 1 + 2)
    sides = {(e["step"], e["index"]): (e["advantage_old"], e["advantage_new"]) for e in found["examples"]}
    assert sides[1, 0] == sides[2, 0] == (1.0, -1.0)
    assert sides[1, 1] == (-1.0, 0.0)
    assert sides[1, 3] == (0.0, 1.0)


def test_a_run_of_rejection_sampling_shows_what_would_be_kept(tmp_path: Path) -> None:
    made = of_method(tmp_path, "rejection_sft")
    source = tmp_path / "mine.py"
    source.write_text("def last(completions):\n    return [float(i == 3) for i, _ in enumerate(completions)]\n")
    found, _ = data_of(made, "--reward", f"{source}:last")
    now = {(e["step"], e["index"]): e["advantage_new"] for e in found["examples"]}
    assert now[1, 0] == 0.0
    assert now[1, 3] == now[2, 3] == 1.0
