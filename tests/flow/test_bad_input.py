"""What a user meets when something is wrong: one sentence that says where, what was found, and what to do."""

from __future__ import annotations

import json
import shutil


def refused(charter, recipe, *words, cwd, code):
    done = charter("train", recipe, *words, cwd=cwd)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def rewrite(recipe, old, new):
    text = recipe.read_text()
    assert old in text
    recipe.write_text(text.replace(old, new))
    return recipe


def test_a_misspelt_key_names_the_nearest_and_its_line(charter, grpo_recipe, tmp_path):
    rewrite(grpo_recipe, "learning_rate = 1e-3", "learnig_rate = 1e-3")
    message = refused(charter, grpo_recipe, cwd=tmp_path, code=2)
    assert "learnig_rate" in message
    assert "learning_rate" in message
    line = grpo_recipe.read_text().splitlines().index("learnig_rate = 1e-3") + 1
    assert f"tiny.toml:{line}" in message


def test_all_problems_are_reported_at_once(charter, grpo_recipe, tmp_path):
    rewrite(grpo_recipe, "learning_rate = 1e-3", "learnig_rate = 1e-3")
    rewrite(grpo_recipe, "group_size = 4", 'group_size = "four"')
    message = refused(charter, grpo_recipe, cwd=tmp_path, code=2)
    assert "2 problems" in message
    assert "group_size" in message


def test_a_missing_column_is_found_before_the_model_loads(charter, grpo_recipe, tmp_path):
    rewrite(grpo_recipe, "rewards.py:early", "rewards.py:wants")
    (tmp_path / "rewards.py").write_text("def wants(completions, anwser):\n    return [1.0 for _ in completions]\n")
    rewrite(grpo_recipe, 'model = "', 'model = "/nowhere')
    message = refused(charter, grpo_recipe, cwd=tmp_path, code=2)
    assert "anwser" in message
    assert "answer" in message.replace("anwser", "")


def rows(tmp_path, *lines):
    (tmp_path / "rows.jsonl").write_text("".join(line + "\n" for line in lines))
    return f"data.prompts={tmp_path / 'rows.jsonl'}"


def test_a_row_that_is_not_json_is_named(charter, grpo_recipe, tmp_path):
    source = rows(tmp_path, json.dumps({"question": "1+1", "answer": "2"}), '{"question": "2+2", "answer"')
    message = refused(charter, grpo_recipe, source, "data.options={}", cwd=tmp_path, code=2)
    assert "rows.jsonl:2: the row is not JSON" in message


def test_an_empty_data_set_is_named(charter, grpo_recipe, tmp_path):
    message = refused(charter, grpo_recipe, rows(tmp_path), cwd=tmp_path, code=2)
    assert "rows.jsonl" in message


def test_a_model_folder_without_a_tokenizer(charter, grpo_recipe, tiny_folder, tmp_path):
    shutil.copytree(tiny_folder("llama"), tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*"))
    message = refused(charter, grpo_recipe, f"model={tmp_path / 'bare'}", cwd=tmp_path, code=1)
    assert "has no tokenizer" in message
    assert "tokenizer.save_pretrained" in message
    # what could not begin is no run, and does not stand in the way of the mended recipe
    done = charter("train", grpo_recipe, "run.steps=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_groups_of_one_name_the_estimator(charter, grpo_recipe, tmp_path):
    message = refused(charter, grpo_recipe, "sampling.group_size=1", cwd=tmp_path, code=2)
    assert "center" in message
    assert "group_size" in message


def test_a_reward_that_raises_stops_the_step_with_its_cause(charter, grpo_recipe, tmp_path):
    (tmp_path / "rewards.py").write_text(
        "def early(completions, **columns):\n    return [1 / 0 for _ in completions]\n"
    )
    message = refused(charter, grpo_recipe, cwd=tmp_path, code=1)
    assert "ZeroDivisionError: division by zero (rewards.py, line 2)" in message
    later = refused(charter, grpo_recipe, "data.held_out=0", "--replace", cwd=tmp_path, code=1)
    assert "failed for 16 of 16 completions of a step" in later
    assert "never counted as 0" in later


def test_a_reward_that_hangs_is_killed_and_named(charter, grpo_recipe, tmp_path):
    (tmp_path / "rewards.py").write_text("def early(completions, **columns):\n    while True:\n        pass\n")
    rewrite(grpo_recipe, 'name = "rewards.py:early"', 'name = "rewards.py:early"\ntimeout_s = 0.2')
    message = refused(
        charter, grpo_recipe, "sampling.group_size=2", "grpo.prompts_per_step=1", "eval.prompts=1", cwd=tmp_path, code=1
    )
    assert "0.2 s" in message


def test_a_full_disk_while_saving_leaves_the_last_checkpoint_whole(charter, grpo_recipe, tmp_path, monkeypatch):
    import errno

    from charter.run import checkpoint

    real, calls = checkpoint.save_file, []

    def full(*arguments, **named):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **named)

    monkeypatch.setattr(checkpoint, "save_file", full)
    message = refused(charter, grpo_recipe, "--run-dir", tmp_path / "r", cwd=tmp_path, code=1)
    assert "step-000004" in message
    assert "free" in message
    assert (tmp_path / "r" / "latest").resolve().name == "step-000002"
    monkeypatch.setattr(checkpoint, "save_file", real)
    done = charter("train", grpo_recipe, "--run-dir", tmp_path / "r", "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_losses_that_are_not_finite_are_skipped_and_three_in_a_row_stop_with_everything_saved(
    charter, grpo_recipe, tmp_path
):
    (tmp_path / "rewards.py").write_text(
        "def early(completions, **columns):\n    return [1e300 * i for i, _ in enumerate(completions)]\n"
    )
    message = refused(charter, grpo_recipe, "eval.prompts=1", "--run-dir", tmp_path / "r", cwd=tmp_path, code=1)
    assert "not finite 3 steps in a row, up to step 3" in message
    assert "Lower optimizer.learning_rate" in message
    assert (tmp_path / "r" / "latest").resolve().name == "step-000003"
    stored = [json.loads(line) for line in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    assert [row["skipped"] for row in stored if row["step"]] == [1, 1, 1]
    assert stored[-1]["version"] == 0


def test_weights_that_are_not_finite_cannot_be_sampled(charter, grpo_recipe, tmp_path):
    message = refused(charter, grpo_recipe, "optimizer.learning_rate=1e38", "optimizer.eps=1e-30", cwd=tmp_path, code=1)
    assert "not finite" in message


def test_a_prompt_without_room_is_named(charter, grpo_recipe, tmp_path):
    message = refused(charter, grpo_recipe, "sampling.max_new_tokens=300", cwd=tmp_path, code=2)
    assert "256 positions" in message


def test_resume_and_replace_exclude_each_other(charter, grpo_recipe, tmp_path):
    assert "exclude each other" in refused(charter, grpo_recipe, "--resume", "--replace", cwd=tmp_path, code=2)


def test_resuming_what_has_not_begun_begins_it(charter, grpo_recipe, tmp_path):
    done = charter("train", grpo_recipe, "run.steps=1", "--resume", "--run-dir", tmp_path / "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "holds no run yet" in done.stderr


def test_a_run_that_is_being_written_is_not_moved_aside(charter, grpo_recipe, tmp_path):
    from charter.run.store import RunStore

    with RunStore.create(tmp_path / "r", "", {}):
        message = refused(charter, grpo_recipe, "--replace", "--run-dir", tmp_path / "r", cwd=tmp_path, code=1)
    assert (tmp_path / "r" / "recipe.toml").exists()
    assert str(tmp_path / "r") in message


def test_rows_that_changed_under_a_run_are_noticed(charter, grpo_recipe, tmp_path):
    words = (
        "data.options={}",
        "data.template={question}=",
        "data.held_out=0",
        "data.size=8",
        "grpo.prompts_per_step=2",
    )
    numbers = [json.dumps({"question": f"{i}+1", "answer": str(i + 1)}) for i in range(8)]
    source = rows(tmp_path, *numbers)
    run = ("--run-dir", tmp_path / "r")
    assert charter("train", grpo_recipe, source, *words, "run.steps=1", *run, cwd=tmp_path).returncode == 0
    rows(tmp_path, *numbers[:-1], json.dumps({"question": "9+9", "answer": "18"}))
    message = refused(charter, grpo_recipe, source, *words, "run.steps=2", "--resume", *run, cwd=tmp_path, code=1)
    assert "rows.jsonl are not those the run began with" in message


def test_a_step_larger_than_the_data_is_refused_before_the_model_loads(charter, grpo_recipe, tmp_path):
    message = refused(charter, grpo_recipe, "grpo.prompts_per_step=500", "model=/nowhere", cwd=tmp_path, code=2)
    assert "500" in message
    assert "72" in message


def test_penalties_that_would_lose_their_size_are_refused(charter, grpo_recipe, tmp_path):
    words = ("grpo.combine=per_reward", "grpo.kl_coef=0.1", "grpo.kl_in=reward")
    assert "would lose its size" in refused(charter, grpo_recipe, *words, cwd=tmp_path, code=2)


def test_a_reward_that_pays_for_nothing_is_found_before_the_first_step(charter, grpo_recipe, tmp_path):
    rewrite(grpo_recipe, 'name = "rewards.py:early"', "name = \"regex\"\npattern = '\\d*'")
    message = refused(charter, grpo_recipe, cwd=tmp_path, code=1)
    assert "gives an empty completion" in message
