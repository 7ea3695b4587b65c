"""`charter doctor`: every fault has a fix, what is required decides the exit code, a check that fails stops nothing."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from charter.cli import doctor
from charter.cli.doctor import Line, Requirement

app = typer.Typer()
app.command()(doctor.command)

TORCH = Requirement(package="torch", module="torch", least=(2, 9))
GYM = Requirement(package="reasoning-gym", module="reasoning_gym", least=(0, 1, 20), extra="gym")


def missing(name: str) -> str:
    raise metadata.PackageNotFoundError(name)


def broken(name: str) -> None:
    raise OSError("libcudart.so.12: cannot open shared object file\nmore")


@pytest.mark.parametrize(
    ("requirement", "version", "status", "found"),
    [
        (TORCH, "2.9", "ok", "2.9"),
        (TORCH, "2.13.0+cpu", "ok", "2.13.0+cpu"),  # 2.13 is newer than 2.9, though it sorts before it as a word
        (TORCH, "2.8.1", "broken", "2.8.1, needed is 2.9 or newer"),
        (GYM, "0.1.19", "note", "0.1.19, needed is 0.1.20 or newer"),
        (GYM, "0.2", "ok", "0.2"),
    ],
)
def test_versions(requirement: Requirement, version: str, status: str, found: str) -> None:
    got = doctor.check_package(requirement, lambda name: version, lambda module: None)
    assert (got.status, got.found) == (status, found)
    assert bool(got.fix) == (status != "ok")


def test_missing_and_broken_packages() -> None:
    got = doctor.check_package(TORCH, missing)
    assert (got.status, got.found, got.fix) == ("broken", "not installed", "pip install 'torch>=2.9'")
    got = doctor.check_package(GYM, missing)
    assert (got.status, got.fix) == ("note", "pip install 'charter[gym]'")
    got = doctor.check_package(TORCH, lambda name: "2.13.0", broken)
    assert got.status == "broken"
    assert got.found == "2.13.0 does not load: OSError: libcudart.so.12: cannot open shared object file"


def test_an_optional_package_is_not_loaded() -> None:
    assert doctor.check_package(GYM, lambda name: "0.1.25", broken).status == "ok"


def test_the_requirements_are_those_of_the_package() -> None:
    """What doctor asks for is what pyproject.toml declares, so that the two cannot drift apart."""
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {None: project["dependencies"], **project["optional-dependencies"]}
    for requirement in doctor.REQUIREMENTS:
        lines = [text.replace("[antlr4_13_2]", "") for text in declared[requirement.extra]]
        assert f"{requirement.package}>={'.'.join(map(str, requirement.least))}" in lines


@pytest.mark.parametrize(
    ("version", "status"), [((3, 10, 9), "broken"), ((3, 11, 0), "ok"), ((3, 13, 2), "ok"), ((3, 14, 0), "note")]
)
def test_python(version: tuple[int, ...], status: str) -> None:
    assert [each.status for each in doctor.check_python(version)] == [status]


@pytest.mark.parametrize(
    ("threads", "usable", "status"), [(2, 2, "ok"), (8, 2, "note"), (1, 4, "note"), (1, 1, "ok"), (3, 4, "ok")]
)
def test_threads(threads: int, usable: int, status: str) -> None:
    got = doctor.thread_line(threads, usable)
    assert got.status == status
    assert (f"OMP_NUM_THREADS={usable}" in got.fix) == (status == "note")


def test_disk() -> None:
    assert doctor.disk_line(5 * doctor.GIB).status == "ok"
    low = doctor.disk_line(5 * doctor.GIB - 1)
    assert (low.status, low.found) == ("note", "5.0 GiB free here")


def test_the_cache_is_tried_and_left_clean(tmp_path: Path) -> None:
    assert doctor.check_cache(tmp_path / "new" / "cache")[0].status == "ok"
    assert list((tmp_path / "new" / "cache").iterdir()) == []
    (tmp_path / "file").write_text("")
    (got,) = doctor.check_cache(tmp_path / "file" / "cache")
    assert got.status == "broken"
    assert "CHARTER_CACHE" in got.fix


def test_the_model_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARTER_CACHE", str(tmp_path))
    (got,) = doctor.check_model()
    assert (got.status, "charter assets get smollm2-135m" in got.fix) == ("note", True)
    monkeypatch.setattr("charter.assets.fetched", lambda name: tmp_path / name)
    (got,) = doctor.check_model()
    assert (got.status, got.found) == ("ok", f"smollm2-135m in {tmp_path / 'smollm2-135m'}")


def test_the_cache_of_the_assets_is_the_one_that_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARTER_CACHE", str(tmp_path / "mine"))
    (got,) = doctor.check_cache()
    assert (got.status, got.found) == ("ok", str(tmp_path / "mine"))


def test_a_check_that_fails_is_reported_and_the_others_run() -> None:
    def check_isolation() -> list[Line]:
        raise RuntimeError("boom")

    got = doctor.examine([check_isolation, lambda: [Line(name="x", status="ok", found="y")]])
    assert [(each.name, each.status) for each in got] == [("isolation", "broken"), ("x", "ok")]
    assert "RuntimeError: boom" in got[0].found


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("note", 0), ("broken", 1)])
def test_the_exit_code(monkeypatch: pytest.MonkeyPatch, status: doctor.Status, code: int) -> None:
    monkeypatch.setattr(doctor, "checks", [lambda: [Line(name="x", status=status, found="y", fix="z")]])
    result = CliRunner().invoke(app, ["--json"])
    assert result.exit_code == code
    assert json.loads(result.output) == {
        "ok": code == 0,
        "checks": [{"name": "x", "status": status, "found": "y", "fix": "z"}],
    }
    result = CliRunner().invoke(app, [])
    assert result.exit_code == code
    last = result.output.splitlines()[-1]
    assert last == ("Broken: x." if code else "Everything a run needs is there.")


def test_this_machine() -> None:
    """The suite runs here, so nothing that is required is broken, and every line that is not ok has a fix."""
    lines = doctor.examine()
    assert [each for each in lines if each.status == "broken"] == []
    assert {"python", "torch", "cores", "memory", "disk", "gpu", "threads", "cache", "model"} <= {e.name for e in lines}
    for each in lines:
        assert bool(each.fix) == (each.status != "ok"), each


def test_importing_it_is_light() -> None:
    code = "import sys, charter.cli.doctor; print([m for m in ('torch', 'psutil', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    importlib.import_module("charter.cli.doctor")
