"""Stages one after the other: what is done is not done again, what changed is refused, what stopped goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from charter.errors import StoreError
from charter.train.pipeline import Finished, Stage, StageStopped, Turn, read_finished, run_stages


def put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


class Work:
    """Adds one to a counter in its folder with each call; raises on the calls it is told to."""

    def __init__(self, calls: list[str], name: str, fails: tuple[int, ...] = ()) -> None:
        self.calls, self.name, self.fails = calls, name, fails

    async def __call__(self, folder: Path) -> Mapping[str, Any]:
        self.calls.append(self.name)
        folder.mkdir(exist_ok=True)
        file = folder / "count"
        count = int(file.read_text()) + 1 if file.is_file() else 1
        file.write_text(str(count))
        if count in self.fails:
            raise StageStopped(f"{self.name} stopped")
        return {"count": count}


def run(stages: list[Stage], folder: Path, turns: list[Turn] | None = None) -> list[Finished]:
    return asyncio.run(run_stages(stages, folder, None if turns is None else turns.append, write=put))


def stages(calls: list[str], *names: str, **inputs: Any) -> list[Stage]:
    return [Stage(name=n, run=Work(calls, n), inputs=inputs.get(n, "h")) for n in names]


def test_stages_run_in_order_once_and_are_written_down_after_each(tmp_path):
    calls: list[str] = []
    turns: list[Turn] = []
    done = run(stages(calls, "a", "b"), tmp_path, turns)
    assert calls == ["a", "b"]
    assert [(t.what, t.name, t.number, t.of) for t in turns] == [
        ("begins", "a", 1, 2), ("ends", "a", 1, 2), ("begins", "b", 2, 2), ("ends", "b", 2, 2),
    ]  # fmt: skip
    record = json.loads((tmp_path / "stages.json").read_text())
    assert record["format"] == 1
    assert [(s["name"], s["inputs"], s["result"]) for s in record["stages"]] == [
        ("a", {"inputs": "h"}, {"count": 1}), ("b", {"inputs": "h"}, {"count": 1}),
    ]  # fmt: skip
    turns.clear()
    again = run(stages(calls, "a", "b", "c"), tmp_path, turns)
    assert calls == ["a", "b", "c"]
    assert [t.what for t in turns] == ["skipped", "skipped", "begins", "ends"]
    assert again[:2] == done
    assert turns[0].finished == done[0]


def test_a_stage_that_did_not_finish_is_called_again_with_its_own_folder(tmp_path):
    calls: list[str] = []
    made = [*stages(calls, "a"), Stage(name="b", run=Work(calls, "b", fails=(1, 2)), inputs="h")]
    for _ in range(2):
        with pytest.raises(StageStopped):
            run(made, tmp_path)
        assert [one.name for one in read_finished(tmp_path)] == ["a"]
    assert [one.result for one in run(made, tmp_path)] == [{"count": 1}, {"count": 3}]
    assert calls == ["a", "b", "b", "b"]


@pytest.mark.parametrize(
    ("names", "inputs", "sentence"),
    [
        (("a", "b"), {"a": "other"}, "the stage 'a' is finished, and its inputs changed since (h; now other)"),
        (("a", "b"), {"b": {"inputs": "h", "data": "x" * 64}}, "its data changed since (none; now xxxxxxxxxxxx…)"),
        (("b", "a"), {}, "stage 1 finished as 'a', and now it is 'b'"),
        (("a",), {}, "stage 2 finished as 'b', and now it is none"),
    ],
)
def test_what_is_finished_must_stay_what_it_was(tmp_path, names, inputs, sentence):
    calls: list[str] = []
    run(stages(calls, "a", "b"), tmp_path)
    before = (tmp_path / "stages.json").read_bytes()
    with pytest.raises(StoreError) as caught:
        run(stages(calls, *names, **inputs), tmp_path)
    assert sentence in str(caught.value)
    assert calls == ["a", "b"]
    assert (tmp_path / "stages.json").read_bytes() == before


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2, "stages": []}', '{"format": 1, "stages": [{"name": "a"}]}'])
def test_a_damaged_record_is_refused_with_what_to_do(tmp_path, text):
    (tmp_path / "stages.json").write_text(text)
    with pytest.raises(StoreError, match=r"is not a record of finished stages .* delete it"):
        run(stages([], "a"), tmp_path)


def test_a_result_that_is_no_json_leaves_the_record_as_it_was(tmp_path):
    async def bad(folder: Path) -> Mapping[str, Any]:
        return {"loss": float("nan")}

    calls: list[str] = []
    run(stages(calls, "a"), tmp_path)
    before = (tmp_path / "stages.json").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        run([*stages(calls, "a"), Stage(name="b", run=bad, inputs="h")], tmp_path)
    assert (tmp_path / "stages.json").read_bytes() == before


def test_two_stages_of_one_name_are_a_mistake_of_the_caller(tmp_path):
    with pytest.raises(ValueError, match="two stages have one name"):
        run(stages([], "a", "a"), tmp_path)


def test_a_folder_has_one_pipeline_at_a_time(tmp_path):
    import os

    from charter.cli.stage import run_in_folder
    from charter.run.lock import take_lock

    calls: list[str] = []
    asyncio.run(run_in_folder(stages(calls, "a"), tmp_path / "p"))
    lock = take_lock(tmp_path / "p")
    with pytest.raises(StoreError, match="is being written by another process"):
        asyncio.run(run_in_folder(stages(calls, "a", "b"), tmp_path / "p"))
    os.close(lock)
    asyncio.run(run_in_folder(stages(calls, "a", "b"), tmp_path / "p"))
    assert calls == ["a", "b"]
