"""A run folder: what is written reads back, torn and full disks leave nothing torn, one process writes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from charter.errors import StoreError
from charter.run.manifest import build_manifest
from charter.run.reader import Run, open_run, summarize
from charter.run.rollouts import parquet_bytes, rollout_table, turns
from charter.run.store import RunStore
from charter.types import Group, Prompt, Rollout, Score, Scored, Update

RECIPE = 'method = "grpo"\nmodel = "tiny"\n'


def an_update(step: int = 3, text: str = "122", message: str = "What is 59+63?") -> Update:
    prompt = Prompt(id="p1", messages=({"role": "user", "content": message},), fields={"answer": "122"})
    plain = Prompt(id="p2", messages=({"role": "text", "content": "Once"},))
    first = Scored(
        group=Group(
            prompt=prompt,
            rollouts=(
                Rollout(
                    prompt_id="p1", index=0, tokens=(7, 2), logprobs=(-0.5, -0.25), text=text, stop="eos", version=4
                ),
                Rollout(
                    prompt_id="p1", index=1, tokens=(7, 8), logprobs=(-1.5, -0.125), text="é", stop="length", version=4
                ),
            ),
        ),
        scores=(
            Score(value=1.5, parts={"math": 1.0, "format": 0.5}),
            Score(value=None, parts={"math": None}, note="hit 10 s", status="failed"),
        ),
    )
    second = Scored(
        group=Group(
            prompt=plain,
            rollouts=(Rollout(prompt_id="p2", index=0, tokens=(), logprobs=(), text="", stop="failed", version=4),),
        ),
        scores=(Score(value=None, status="abstained"),),
    )
    return Update(step=step, version=5, metrics={}, scored=(first, second), advantages=((0.25, None), (None,)))


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with RunStore.create(tmp_path / "run", RECIPE, {"seed": 3}) as made:
        yield made


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


def test_rollouts_hold_every_column_of_the_contract(store: RunStore) -> None:
    path = store.write_rollouts(an_update())
    assert path == store.folder / "rollouts" / "step-000003.parquet"
    table = pq.read_table(path)  # as anyone would, without Charter
    assert table.column_names == [
        "prompt_id", "index", "prompt", "text", "tokens", "logprobs", "reward", "reward/format", "reward/math",
        "advantage", "stop", "version", "status", "note",
    ]  # fmt: skip
    rows = table.to_pylist()
    assert rows[0] == {
        "prompt_id": "p1", "index": 0, "prompt": '[{"role": "user", "content": "What is 59+63?"}]', "text": "122",
        "tokens": [7, 2], "logprobs": [-0.5, -0.25], "reward": 1.5, "reward/format": 0.5, "reward/math": 1.0,
        "advantage": 0.25, "stop": "eos", "version": 4, "status": "scored", "note": "",
    }  # fmt: skip
    assert (rows[1]["reward"], rows[1]["reward/math"], rows[1]["advantage"]) == (None, None, None)
    assert (rows[1]["status"], rows[1]["note"], rows[1]["text"]) == ("failed", "hit 10 s", "é")
    assert (rows[2]["prompt"], rows[2]["tokens"], rows[2]["stop"]) == ("Once", [], "failed")


def test_the_same_content_gives_the_same_bytes() -> None:
    assert parquet_bytes(rollout_table(an_update())) == parquet_bytes(rollout_table(an_update()))
    assert parquet_bytes(rollout_table(an_update())) != parquet_bytes(rollout_table(an_update(text="121")))


def test_what_utf8_cannot_hold_is_written_in_words(store: RunStore) -> None:
    store.write_rollouts(an_update(text="a\ud800b\0", message="q\udfff"))
    row = store.rollouts(3).to_pylist()[0]
    assert row["text"] == "a\\ud800b\0"
    assert "\\udfff" in row["prompt"]


def test_a_step_without_completions_writes_no_file(store: RunStore) -> None:
    assert store.write_rollouts(Update(step=1, version=1, metrics={})) is None
    with pytest.raises(StoreError, match="no completions of step 1: none are stored"):
        store.rollouts(1)


def test_advantages_that_do_not_fit_are_refused() -> None:
    good = an_update()
    with pytest.raises(ValueError, match="step 3, prompt p1: 1 advantages for 2 completions"):
        rollout_table(Update(step=3, version=1, metrics={}, scored=good.scored, advantages=((1.0,), (None,))))
    with pytest.raises(ValueError, match="1 rows of advantages for 2 groups"):
        rollout_table(Update(step=3, version=1, metrics={}, scored=good.scored, advantages=((1.0, 2.0),)))


@given(st.text(max_size=40))
def test_a_plain_prompt_reads_back_as_one_turn(text: str) -> None:
    if not text.startswith('[{"'):
        assert turns(text) == [("text", text)]


def test_a_conversation_reads_back_as_turns() -> None:
    assert turns('[{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]') == [
        ("system", "s"),
        ("user", "u"),
    ]
    assert turns('[{"a": 1}]') == [("text", '[{"a": 1}]')]
    assert turns('[{"role": ') == [("text", '[{"role": ')]


def test_metrics_begin_with_the_step_and_write_what_is_not_finite_as_null(store: RunStore) -> None:
    store.append_metrics({"reward": 0.5, "step": 1, "grad_norm": float("nan"), "loss": float("inf")})
    store.append_metrics({"reward": 1, "step": 2})
    lines = (store.folder / "metrics.jsonl").read_text().splitlines()
    assert lines[0] == '{"step": 1, "reward": 0.5, "grad_norm": null, "loss": null}'
    assert store.metrics() == [
        {"step": 1, "reward": 0.5, "grad_norm": None, "loss": None},
        {"step": 2, "reward": 1},
    ]


@pytest.mark.parametrize("row", [{}, {"step": 1.0}, {"step": True}, {"step": "1"}])
def test_a_row_needs_a_step(store: RunStore, row: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match=r"metrics\.jsonl: a row needs a whole-number"):
        store.append_metrics(row)


def test_a_step_has_one_row(store: RunStore) -> None:
    store.append_metrics({"step": 4})
    with pytest.raises(StoreError, match="step 4 comes after step 4"):
        store.append_metrics({"step": 4})


rows_and_cut = st.tuples(st.integers(0, 5), st.integers(0, 400))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(rows_and_cut)
def test_a_file_cut_anywhere_reads_and_continues(tmp_path: Path, case: tuple[int, int]) -> None:
    """Whatever byte a kill stopped at, the whole rows are there, and the next append is a row of its own."""
    count, cut = case
    folder = tmp_path / f"run-{count}-{cut}"
    if folder.exists():
        return
    rows = [{"step": i, "reward": i / 7} for i in range(1, count + 1)]
    with RunStore.create(folder, RECIPE, {}) as store:
        for row in rows:
            store.append_metrics(row)
    path = folder / "metrics.jsonl"
    data = path.read_bytes() if path.exists() else b""
    path.write_bytes(data[:cut])
    # a row is whole once its closing brace is there, with or without the line feed
    whole = sum(1 for i in range(count) if len(b"\n".join(data.split(b"\n")[: i + 1])) <= cut)
    assert open_run(folder).metrics == rows[:whole]
    with RunStore.open(folder) as store:
        store.append_metrics({"step": 99})
        assert store.metrics() == [*rows[:whole], {"step": 99}]


def test_a_broken_line_in_the_middle_is_named(store: RunStore) -> None:
    (store.folder / "metrics.jsonl").write_text('{"step": 1}\n{"step"\n{"step": 3}\n')
    with pytest.raises(StoreError, match=r"metrics\.jsonl:2 is not a row of metrics"):
        store.metrics()


def test_truncate_drops_what_came_after_and_the_torn_end(store: RunStore) -> None:
    for step in (1, 2, 3):
        store.append_metrics({"step": step})
        store.write_rollouts(an_update(step))
    with (store.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')
    store.truncate_after(2)
    assert (store.folder / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'
    assert store.run.rollout_steps == [1, 2]
    store.append_metrics({"step": 3})
    store.truncate_after(0)
    assert store.metrics() == []
    store.append_metrics({"step": 1})


def test_a_run_is_not_overwritten(store: RunStore) -> None:
    store.close()
    with pytest.raises(StoreError, match=r"a run stands there already.*--resume.*another name"):
        RunStore.create(store.folder, RECIPE, {})


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"not empty: it holds thesis\.txt"):
        RunStore.create(tmp_path, RECIPE, {})
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_create_that_was_killed_half_way_can_be_done_again(tmp_path: Path) -> None:
    for name in ("manifest.json", ".lock", ".tmp-recipe.toml-1"):
        (tmp_path / name).write_text("{}")
    with RunStore.create(tmp_path, RECIPE, {"a": 1}) as store:
        assert store.recipe_text == RECIPE
        assert store.manifest == {"a": 1}
    assert not any(name.startswith(".tmp-") for name in names(tmp_path))


def test_what_is_no_run_is_not_opened(tmp_path: Path, store: RunStore) -> None:
    with pytest.raises(StoreError, match=r"nowhere is not a run: it does not exist.*Runs beside it: run"):
        open_run(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match=r"holds no recipe\.toml"):
        RunStore.open(tmp_path / "empty")


HOLDER = textwrap.dedent("""
    import sys
    from charter.run.store import RunStore
    store = RunStore.open(sys.argv[1])
    print("held", flush=True)
    sys.stdin.read()
""")


def test_two_processes_do_not_write_one_run(store: RunStore) -> None:
    store.close()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(store.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=rf"being written by another process \(pid {child.pid}\)"):
            RunStore.open(store.folder)
        child.kill()  # -9: the kernel lets go of the lock
        child.wait()
    RunStore.open(store.folder).close()


def test_a_closed_store_does_not_write(store: RunStore) -> None:
    store.close()
    with pytest.raises(StoreError, match="was closed"):
        store.append_metrics({"step": 1})


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_while_writing_leaves_the_old_content(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_summary({"before": 0.25})
    before = names(store.folder)
    monkeypatch.setattr("charter.run.atomic.os.write", full)
    with pytest.raises(
        StoreError, match=r"summary\.json could not be written: the disk.*bytes were to be written and .* free"
    ):
        store.write_summary({"before": 0.5})
    monkeypatch.undo()
    assert store.summary["before"] == 0.25
    assert names(store.folder) == before


def test_a_failed_rename_leaves_the_old_content(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_summary({"before": 0.25})
    before = names(store.folder)
    monkeypatch.setattr("charter.run.atomic.os.replace", full)
    with pytest.raises(StoreError, match=r"Free some space"):
        store.write_summary({"before": 0.5})
    monkeypatch.undo()
    assert store.summary["before"] == 0.25
    assert names(store.folder) == before


def test_half_a_row_on_a_full_disk_is_taken_back(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append_metrics({"step": 1})
    write, calls = os.write, []

    def half_then_full(fd: int, data: Any) -> int:
        calls.append(fd)
        return write(fd, bytes(data)[: len(data) // 2]) if len(calls) == 1 else full()

    monkeypatch.setattr("charter.run.atomic.os.write", half_then_full)
    with pytest.raises(StoreError, match="disk or quota is full"):
        store.append_metrics({"step": 2, "reward": 0.5})
    monkeypatch.undo()
    assert (store.folder / "metrics.jsonl").read_bytes() == b'{"step": 1}\n'
    store.append_metrics({"step": 2})  # with space again, the same step can be written
    assert [row["step"] for row in store.metrics()] == [1, 2]


LIMITED = textwrap.dedent("""
    import resource, sys
    from charter.errors import StoreError
    from charter.run.store import RunStore
    from charter.types import Group, Prompt, Rollout, Score, Scored, Update
    store = RunStore.open(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # the kernel itself refuses, in the middle of a write
    text = "".join(chr(33 + (i * i * 7919) % 90) + str(i) for i in range(4000))
    rollout = Rollout(prompt_id="p", index=0, tokens=(1,), logprobs=(0.0,), text=text, stop="eos", version=0)
    group = Group(prompt=Prompt(id="p", messages=()), rollouts=(rollout,))
    update = Update(step=1, version=1, metrics={}, scored=(Scored(group=group, scores=(Score(value=1.0),)),))
    for write in (lambda: store.write_rollouts(update), lambda: store.append_metrics({"step": 1, "x": "y" * 9000})):
        try:
            write()
        except StoreError as error:
            print(error)
""")


def test_a_limit_of_the_kernel_leaves_nothing_torn(store: RunStore) -> None:
    store.close()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(store.folder)], capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert "step-000001.parquet could not be written: the file size limit" in first
    assert "metrics.jsonl could not be written: the file size limit" in second
    assert names(store.folder) == {".lock", "recipe.toml", "manifest.json", "rollouts", "metrics.jsonl"}
    assert (store.folder / "metrics.jsonl").read_bytes() == b""


def test_the_reader_needs_no_torch(store: RunStore) -> None:
    store.append_metrics({"step": 1, "reward": 0.5})
    code = "import sys; from charter.run.reader import open_run; print(open_run(sys.argv[1]).summary['reward_last']); "
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(store.folder)], capture_output=True, text=True, check=True)
    assert done.stdout == "0.5\nFalse\n"


def test_the_public_reader(store: RunStore) -> None:
    store.append_metrics({"step": 1, "reward": 0.25, "time/step_s": 2.0, "time/sample_s": 1.5, "tokens/sampled": 40.0})
    store.append_metrics({"step": 2, "reward": 0.75, "time/step_s": 3.0, "time/sample_s": 2.0, "skipped": 1.0})
    store.write_summary({"before": 0.1, "after": 0.9})
    run = Run(store.folder)
    assert (run.recipe_text, run.manifest, run.latest_checkpoint) == (RECIPE, {"seed": 3}, None)
    got = run.summary
    assert (got["name"], got["method"], got["steps"]) == ("run", "grpo", 2)
    assert (got["reward_first"], got["reward_last"], got["reward_best"]) == (0.25, 0.75, 0.75)
    assert got["seconds"] == {"sample": 3.5, "score": 0, "learn": 0, "step": 5.0}
    assert (got["tokens"], got["skipped"], got["before"], got["after"]) == (40.0, 1.0, 0.1, 0.9)


def test_a_summary_of_nothing_is_not_0() -> None:
    got = summarize([])
    assert (got["steps"], got["reward_last"], got["accuracy_first"]) == (0, None, None)


def test_damaged_files_are_named(store: RunStore) -> None:
    (store.folder / "rollouts").mkdir()
    (store.folder / "rollouts" / "step-000007.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(StoreError, match=r"step-000007\.parquet cannot be read as Parquet"):
        store.rollouts(7)
    (store.folder / "manifest.json").write_text("[1]")
    with pytest.raises(StoreError, match=r"manifest\.json holds a list"):
        _ = store.manifest


def test_the_manifest_holds_what_results_depend_on() -> None:
    got = build_manifest(RECIPE, seeds={"recipe": 3}, hashes={"model": "ab"})
    json.dumps(got, allow_nan=False)
    import hashlib

    assert got["hashes"] == {"recipe.toml": hashlib.sha256(RECIPE.encode()).hexdigest(), "model": "ab"}
    assert got["packages"]["torch"].startswith("2.")
    assert got["seeds"] == {"recipe": 3}
    assert got["machine"]["cores"] >= 1
