"""Checkpoints: what is saved loads bit for bit, damage is seen, and a kill at any moment leaves a whole one."""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from charter.errors import StoreError
from charter.run.checkpoint import STATE, TENSORS, Checkpoints, CheckpointState, damage
from charter.run.generators import rng_state, set_rng_state
from charter.run.reader import open_run
from charter.run.store import RunStore


def model(text: str = "weights") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        (folder / "nested").mkdir()
        (folder / "nested" / "model.safetensors").write_text(text)

    return write


def state(step: int) -> CheckpointState:
    tensors = {"exp_avg/w": torch.full((2, 3), float(step)), "bf16": torch.ones(4, dtype=torch.bfloat16) * 1.5}
    return CheckpointState(step=step, version=step + 1, tensors=tensors, scalars={"data": {"epoch": 2}, "lr": 1e-5})


def test_what_is_saved_loads(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest() is None
    path = checkpoints.save(10, model(), state(10))
    assert path == tmp_path / "checkpoints" / "step-000010"
    assert (path / "model" / "nested" / "model.safetensors").read_text() == "weights"
    assert os.readlink(tmp_path / "latest") == "checkpoints/step-000010"  # relative: the run folder can be moved
    loaded = Checkpoints(tmp_path).load_state(path)
    assert (loaded.step, loaded.version, loaded.scalars) == (10, 11, {"data": {"epoch": 2}, "lr": 1e-5})
    assert torch.equal(loaded.tensors["exp_avg/w"], torch.full((2, 3), 10.0))
    assert loaded.tensors["bf16"].dtype == torch.bfloat16
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-000010"]


def test_tensors_that_share_memory_or_are_not_contiguous(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"a": base, "same": base, "row": base[1], "t": base.T, "scalar": torch.tensor(3), "empty": torch.empty(0)}
    path = Checkpoints(tmp_path).save(1, model(), CheckpointState(step=1, version=1, tensors=tensors))
    loaded = Checkpoints(tmp_path).load_state(path).tensors
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor), name


def test_without_tensors(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path).save(1, model(), CheckpointState(step=1, version=1))
    assert Checkpoints(tmp_path).load_state(path).tensors == {}


def test_the_newest_whole_one_is_the_latest(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (2, 100, 1_000_000, 9):  # 1,000,000 sorts before 100 as a word
        checkpoints.save(step, model(), state(step))
    assert checkpoints.latest() == tmp_path / "checkpoints" / "step-1000000"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("file", "how", "says"),
    [
        (STATE, Path.unlink, "state.json is missing"),
        (STATE, truncate, "state.json does not read"),
        (TENSORS, truncate, "optimizer.safetensors has"),
        ("model/nested/model.safetensors", Path.unlink, "model.safetensors is missing"),
        ("model/nested/model.safetensors", truncate, "has 6 bytes, expected 7"),
    ],
)
def test_damage_is_seen_and_an_older_one_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, how: Callable[[Path], None], says: str
) -> None:
    checkpoints = Checkpoints(tmp_path)
    older = checkpoints.save(1, model(), state(1))
    newer = checkpoints.save(2, model(), state(2))
    how(newer / file)
    with caplog.at_level(logging.WARNING, logger="charter"):
        assert checkpoints.latest() == older
    assert says in caplog.text
    assert str(newer) in caplog.text
    with pytest.raises(StoreError, match=r"step-000002 is damaged: .* Delete that folder"):
        checkpoints.load_state(newer)


def test_a_changed_byte_is_seen_on_loading(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(1, model(), state(1))
    data = bytearray((path / TENSORS).read_bytes())
    data[-1] ^= 1
    (path / TENSORS).write_bytes(data)
    with pytest.raises(StoreError, match=r"the content of state/optimizer\.safetensors is not what was written"):
        checkpoints.load_state(path)


def test_a_changed_number_in_the_state_is_seen(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path).save(1, model(), state(1))
    record = json.loads((path / STATE).read_text())
    record["version"] = 7
    (path / STATE).write_text(json.dumps(record))
    assert damage(path) == "state/state.json does not read: its content is not what was written"


def test_latest_follows_when_what_it_pointed_at_goes(tmp_path: Path) -> None:
    """Killed between the checkpoint's rename and the link's, the link still points at the one before."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, model(), state(1))
    checkpoints.save(2, model(), state(2))
    for mend in (lambda: checkpoints.prune(1), lambda: Checkpoints(tmp_path)):
        (tmp_path / "latest").unlink()
        (tmp_path / "latest").symlink_to("checkpoints/step-000001")
        mend()
        assert os.readlink(tmp_path / "latest") == "checkpoints/step-000002"


def test_pruning_keeps_the_newest_whole_ones(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    paths = {step: checkpoints.save(step, model(), state(step)) for step in (1, 2, 3, 4, 5)}
    (paths[5] / STATE).unlink()
    (paths[3] / STATE).unlink()
    # 5 is damaged and newest: it stays and does not count; 4 and 2 are the two newest whole; damaged 3 and old 1 go
    assert checkpoints.prune(2) == [paths[3], paths[1]]
    assert checkpoints.all() == [paths[2], paths[4], paths[5]]
    assert checkpoints.prune(1) == [paths[2]]
    assert checkpoints.prune(1) == []
    assert checkpoints.latest() == paths[4]
    with pytest.raises(ValueError, match="at least 1"):
        checkpoints.prune(0)


def test_the_same_step_again_replaces(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, model("old"), state(1))
    path = checkpoints.save(1, model("newer"), state(1))
    assert (path / "model" / "nested" / "model.safetensors").read_text() == "newer"
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-000001"]


def test_a_replacement_killed_between_its_renames_keeps_the_old(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path).save(1, model("old"), state(1))
    path.rename(path.with_name(".old-step-000001"))
    assert Checkpoints(tmp_path).latest() == path


def test_leftovers_of_killed_saves_go(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path).save(1, model(), state(1))
    (path.with_name(".tmp-step-000002-77") / "model").mkdir(parents=True)
    (tmp_path / ".tmp-latest-77").symlink_to("x")
    Checkpoints(tmp_path)
    assert sorted(p.name for p in path.parent.iterdir()) == ["step-000001"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoints", "latest"]


LOOKER = "import sys; from charter.run.checkpoint import Checkpoints; print(Checkpoints(sys.argv[1]).latest().name)"


def test_looking_at_a_run_does_not_disturb_its_writer(tmp_path: Path) -> None:
    """Another process that opens the checkpoints must not clear away the save that is under way."""
    with RunStore.create(tmp_path, 'method = "sft"', {}):
        path = Checkpoints(tmp_path).save(1, model(), state(1))
        under_way = path.with_name(f".tmp-step-000002-{os.getpid()}")
        under_way.mkdir()
        done = subprocess.run([sys.executable, "-c", LOOKER, str(tmp_path)], capture_output=True, text=True, check=True)
        assert done.stdout == "step-000001\n"
        assert under_way.is_dir()
    assert open_run(tmp_path).latest_checkpoint == path.resolve()


def test_a_model_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    whole = checkpoints.save(1, model(), state(1))

    def full(folder: Path) -> None:
        (folder / "part").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    # 4 of the model so far, 2·3 floats of 4 bytes, 4 bfloat16 of 2: 4 + 24 + 8 bytes
    with pytest.raises(StoreError, match=r"step-000002 could not be written: the disk .* full; at least 36 bytes"):
        checkpoints.save(2, full, state(2))
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]
    assert checkpoints.latest() == whole
    assert os.readlink(tmp_path / "latest") == "checkpoints/step-000001"


LIMITED = textwrap.dedent("""
    import resource, sys, torch
    from pathlib import Path
    from charter.errors import StoreError
    from charter.run.checkpoint import Checkpoints, CheckpointState
    checkpoints = Checkpoints(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
    state = CheckpointState(step=1, version=1, tensors={"w": torch.zeros(100_000)})
    try:
        checkpoints.save(1, lambda folder: None, state)
    except StoreError as error:
        print(error)
    print(list(Path(sys.argv[1]).rglob("step*")), checkpoints.latest())
""")


def test_tensors_that_the_kernel_refuses_to_write(tmp_path: Path) -> None:
    """safetensors says it in words of its own; the message must still say what to do."""
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert "step-000001 could not be written: the file size limit" in first
    assert second == "[] None"


def test_another_error_of_the_writer_is_not_hidden(tmp_path: Path) -> None:
    def broken(folder: Path) -> None:
        raise KeyError("no such tensor")

    with pytest.raises(KeyError, match="no such tensor"):
        Checkpoints(tmp_path).save(1, broken, state(1))
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_states_that_cannot_be_recorded_are_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(StoreError, match="state is that of step 2, not of 1"):
        checkpoints.save(1, model(), state(2))
    for scalars in ({"x": object()}, {"x": float("nan")}):
        with pytest.raises(StoreError, match="JSON-able and finite"):
            checkpoints.save(1, model(), CheckpointState(step=1, version=1, scalars=scalars))
    assert checkpoints.all() == []


KILLED = textwrap.dedent("""
    # The parent forks savers and kills each at a random moment; after each kill the newest checkpoint must be whole.
    import json, os, random, signal, sys, time
    import torch
    from charter.run.checkpoint import Checkpoints, CheckpointState
    folder, kills = sys.argv[1], int(sys.argv[2])
    chance = random.Random(0)
    def write_model(step):
        def write(path):
            for name in ("config.json", "a.bin", "b.bin"):
                (path / name).write_text(f"{step}" * 2000)
        return write
    steps, problems, leftovers = [0], [], 0
    for kill in range(kills):
        child = os.fork()
        if child == 0:
            checkpoints = Checkpoints(folder)
            step = steps[-1]
            while True:
                step += 1
                tensors = {"w": torch.full((500,), float(step))}
                checkpoints.save(step, write_model(step), CheckpointState(step=step, version=step, tensors=tensors))
                checkpoints.prune(2)
                # the same step again, as a resumed run does: its replacement may be killed, too
                checkpoints.save(step, write_model(step), CheckpointState(step=step, version=step, tensors=tensors))
        time.sleep(chance.uniform(0.02, 0.25))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        leftovers += any(name.startswith((".tmp-", ".old-")) for name in os.listdir(folder + "/checkpoints"))
        checkpoints = Checkpoints(folder)
        latest = checkpoints.latest()
        if latest is None:
            problems.append(f"kill {kill}: none is whole")
            continue
        state = checkpoints.load_state(latest)
        if state.step == 1 and not state.tensors:
            continue  # killed before its first save: the checkpoint from before is still the latest
        same = torch.equal(state.tensors["w"], torch.full((500,), float(state.step)))
        text = (latest / "model" / "b.bin").read_text()
        if not same or text != f"{state.step}" * 2000 or state.step < steps[-1]:
            problems.append(f"kill {kill}: {latest} holds something else")
        if any(name.startswith(".") for name in os.listdir(folder + "/checkpoints")):
            problems.append(f"kill {kill}: leftovers stay")
        if not os.path.exists(folder + "/latest/state/state.json"):
            problems.append(f"kill {kill}: latest points at nothing")
        steps.append(state.step)
    print(json.dumps({"steps": steps[-1], "problems": problems, "leftovers": leftovers}))
""")


def test_killed_at_any_moment_the_newest_is_whole(tmp_path: Path) -> None:
    Checkpoints(tmp_path).save(1, model(), CheckpointState(step=1, version=1))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path), "20"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert got["problems"] == []
    assert got["steps"] > 1  # they did save
    assert got["leftovers"] > 0  # and some were killed in the middle of a save, or nothing was tested


def test_the_generators_continue_where_they_were() -> None:
    torch.manual_seed(3)
    np.random.seed(4)
    random.seed(5)
    np.random.standard_normal()  # leaves a second normal waiting inside: part of the state
    random.gauss(0, 1)
    tensors, scalars = rng_state()
    scalars = json.loads(json.dumps(scalars))

    def draw() -> tuple[float, ...]:
        return (
            torch.rand(()).item(),
            np.random.standard_normal(),
            np.random.rand(),
            random.gauss(0, 1),
            random.random(),
        )

    first = draw()
    assert draw() != first
    set_rng_state(tensors | {"optimizer": torch.ones(1)}, scalars | {"lr": 1})
    assert draw() == first


def test_generator_states_go_through_a_checkpoint(tmp_path: Path) -> None:
    tensors, scalars = rng_state()
    expected = torch.rand(3)
    path = Checkpoints(tmp_path).save(1, model(), CheckpointState(step=1, version=1, tensors=tensors, scalars=scalars))
    loaded = Checkpoints(tmp_path).load_state(path)
    set_rng_state(loaded.tensors, loaded.scalars)
    assert torch.equal(torch.rand(3), expected)
