"""`charter doctor`: what on this machine would stop a run or slow it down, each with a fix.

A check is a function that returns lines; `checks` lists them in the order they are printed, and other rooms' checks
(numeric self-check, isolation) are added to it.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

GIB = 2**30
Status = Literal["ok", "note", "broken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing looked at.

    name: what. status: "ok"; "note" for what is optional or slow; "broken" for what a run cannot do without.
    found: what is there. fix: what to do about it, empty when ok.
    """

    name: str
    status: Status
    found: str
    fix: str = ""


Check = Callable[[], Iterable[Line]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A distribution and what Charter needs of it. least: lowest version. extra: of Charter, None where required."""

    package: str
    module: str
    least: tuple[int, ...]
    extra: str | None = None


REQUIREMENTS = (
    Requirement(package="torch", module="torch", least=(2, 9)),
    Requirement(package="transformers", module="transformers", least=(5,)),
    Requirement(package="safetensors", module="safetensors", least=(0, 5)),
    Requirement(package="gguf", module="gguf", least=(0, 10)),
    Requirement(package="numpy", module="numpy", least=(1, 26)),
    Requirement(package="pyarrow", module="pyarrow", least=(17,)),
    Requirement(package="pydantic", module="pydantic", least=(2, 9)),
    Requirement(package="math-verify", module="math_verify", least=(0, 8)),
    Requirement(package="llvmlite", module="llvmlite", least=(0, 44)),
    Requirement(package="jsonschema", module="jsonschema", least=(4, 23)),
    Requirement(package="reasoning-gym", module="reasoning_gym", least=(0, 1, 20), extra="gym"),
    Requirement(package="peft", module="peft", least=(0, 17), extra="lora"),
    Requirement(package="scikit-learn", module="sklearn", least=(1, 5), extra="cai"),
    Requirement(package="datasets", module="datasets", least=(3, 5), extra="hub"),
    Requirement(package="ray", module="ray", least=(2, 44), extra="ray"),
    Requirement(package="vllm", module="vllm", least=(0, 11), extra="vllm"),
)
PYTHON_LEAST, PYTHON_TESTED = (3, 11), (3, 13)


def version_numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2.13.0+cpu" → (2, 13, 0)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> list[Line]:
    """Whether this Python is one Charter runs on."""
    text = ".".join(map(str, version))
    if version[:2] < PYTHON_LEAST:
        return [Line(name="python", status="broken", found=text, fix="Install Python 3.11, 3.12 or 3.13.")]
    if version[:2] > PYTHON_TESTED:
        return [Line(name="python", status="note", found=f"{text}, newer than tested", fix="3.11 to 3.13 are tested.")]
    return [Line(name="python", status="ok", found=f"{text} ({platform.python_implementation()})")]


def check_package(
    requirement: Requirement,
    version_of: Callable[[str], str] = metadata.version,
    load: Callable[[str], Any] = importlib.import_module,
) -> Line:
    """Whether a package is there, new enough, and loads (an optional one is not loaded: it may take long)."""
    name, extra = requirement.package, requirement.extra
    least = ".".join(map(str, requirement.least))
    install = f"pip install '{name}>={least}'" if extra is None else f"pip install 'charter[{extra}]'"
    try:
        version = version_of(name)
    except metadata.PackageNotFoundError:
        if extra is None:
            return Line(name=name, status="broken", found="not installed", fix=install)
        return Line(name=name, status="note", found=f"not installed (optional: {extra})", fix=install)
    if version_numbers(version) < requirement.least:
        status: Status = "broken" if extra is None else "note"
        return Line(name=name, status=status, found=f"{version}, needed is {least} or newer", fix=install)
    if extra is None:
        try:
            load(requirement.module)
        except Exception as error:  # noqa: BLE001 - a broken package may raise anything on import, and that is the news
            cause = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            return Line(
                name=name, status="broken", found=f"{version} does not load: {cause}", fix=f"Reinstall it: {install}"
            )
    return Line(name=name, status="ok", found=version)


def check_packages() -> list[Line]:
    """Every package Charter uses, required ones first."""
    return [check_package(requirement) for requirement in REQUIREMENTS]


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_machine() -> list[Line]:
    """Cores, memory, disk and accelerators."""
    import psutil

    lines = [Line(name="cores", status="ok", found=f"{cores()} usable of {os.cpu_count()}")]
    memory = psutil.virtual_memory()
    found = f"{memory.available / GIB:.1f} GiB free of {memory.total / GIB:.1f} GiB"
    lines.append(
        Line(name="memory", status="ok", found=found)
        if memory.available >= 4 * GIB
        else Line(
            name="memory",
            status="note",
            found=found,
            fix="Training a model of 135 M parameters takes about 3 GiB; `charter explain RECIPE` estimates yours.",
        )
    )
    lines.append(disk_line(shutil.disk_usage(Path.cwd()).free))
    return [*lines, _accelerator()]


def disk_line(free: int) -> Line:
    """Whether runs written here will fit. free: bytes."""
    found = f"{free / GIB:.1f} GiB free here"
    if free >= 5 * GIB:
        return Line(name="disk", status="ok", found=found)
    return Line(
        name="disk",
        status="note",
        found=found,
        fix="A checkpoint takes about 12 bytes per parameter: free some space, write elsewhere with --run-dir, or "
        "lower run.keep_checkpoints.",
    )


def _accelerator() -> Line:
    try:
        import torch
    except Exception:  # noqa: BLE001 - said by check_packages
        return Line(name="gpu", status="note", found="unknown: torch does not load", fix="Repair torch first.")
    if not torch.cuda.is_available():
        built = torch.version.cuda
        fix = (
            "None is needed for small models; if this machine has an NVIDIA GPU, check its driver with nvidia-smi."
            if built
            else "None is needed for small models; if this machine has an NVIDIA GPU, install a CUDA build of torch."
        )
        return Line(name="gpu", status="note", found="none that torch can use", fix=fix)
    names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    found = ", ".join(f"{gpu.name} ({gpu.total_memory / GIB:.0f} GiB)" for gpu in names)
    return Line(name="gpu", status="ok", found=found)


def thread_line(threads: int, usable: int) -> Line:
    """Whether torch's threads fit the cores. threads: of torch. usable: cores of this process."""
    found = f"torch uses {threads} on {usable} cores"
    if threads > usable:
        return Line(
            name="threads",
            status="note",
            found=found,
            fix=f"More threads than cores wait for each other: export OMP_NUM_THREADS={usable}.",
        )
    if threads == 1 < usable:
        return Line(
            name="threads",
            status="note",
            found=found,
            fix=f"Most cores stand idle: unset OMP_NUM_THREADS, or export OMP_NUM_THREADS={usable}.",
        )
    return Line(name="threads", status="ok", found=found)


def check_threads() -> list[Line]:
    """torch's thread settings against the cores there are."""
    try:
        import torch
    except Exception:  # noqa: BLE001 - said by check_packages
        return []
    return [thread_line(torch.get_num_threads(), cores())]


def check_cache(folder: Path | None = None) -> list[Line]:
    """Whether the cache folder can be written, by writing; nothing is left in it."""
    if folder is None:
        from charter.assets import cache_folder

        folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        return [
            Line(
                name="cache",
                status="broken",
                found=f"{folder} cannot be written: {error.strerror or error}",
                fix="Give yourself write permission, or export CHARTER_CACHE=/a/folder/you/can/write.",
            )
        ]
    return [Line(name="cache", status="ok", found=str(folder))]


def check_model(name: str = "smollm2-135m") -> list[Line]:
    """Whether the model of the quickstart was fetched; fetches nothing."""
    from charter.assets import fetched

    folder = fetched(name)
    if folder is not None:
        return [Line(name="model", status="ok", found=f"{name} in {folder}")]
    return [
        Line(
            name="model",
            status="note",
            found=f"{name} is not fetched yet",
            fix=f"charter assets get {name} (a run that names it fetches it too)",
        )
    ]


def check_exactness() -> Iterable[Line]:
    """The embedded model, loaded (a few seconds), if it is there."""
    from charter.cli.selfcheck import model_lines

    return model_lines()


def check_isolation() -> Iterable[Line]:
    """The sandbox for model-written code, by its self-test (about a second)."""
    from charter.sandbox import launch
    from charter.sandbox.opening import PROVEN_TIERS, proof

    reports = []
    for tier in PROVEN_TIERS:
        reports.append(proof(tier))
        if reports[-1].proven:
            break
    *failed, last = reports
    fix = launch.remedies(
        [name for report in failed for name in ("bubblewrap", "landlock") if name in report.why_not()]
    )
    if last.proven:
        found = f"tier {last.tier} is proven by {len(last.results)} probes"
        return [Line(name="isolation", status="note" if failed else "ok", found=found, fix=fix if failed else "")]
    found = "none could be proven: " + "; ".join(f"{report.tier}: {report.why_not()}" for report in reports)
    return [Line(name="isolation", status="note", found=found[:400], fix="Needed only for code rewards: " + fix)]


checks: list[Check] = [
    check_python,
    check_packages,
    check_machine,
    check_threads,
    check_isolation,
    check_cache,
    check_model,
    check_exactness,
]
"""What `charter doctor` runs, in order; append to it."""


def examine(which: Sequence[Check] | None = None) -> list[Line]:
    """Run the checks. A check that itself fails is a broken line, and the others still run."""
    lines: list[Line] = []
    for check in checks if which is None else which:
        try:
            lines += check()
        except Exception as error:  # noqa: BLE001 - the doctor reports whatever is wrong, also with a check
            name = getattr(check, "__name__", "check").removeprefix("check_")
            cause = f"the check failed: {type(error).__name__}: {error}"
            lines.append(Line(name=name, status="broken", found=cause, fix="Report this with the output of --json."))
    return lines


def render(lines: Sequence[Line]) -> str:
    """The lines as aligned text, and one that sums up."""
    width = max((len(each.name) for each in lines), default=0)
    marks = {"ok": "ok    ", "note": "note  ", "broken": "BROKEN"}
    out: list[str] = []
    for each in lines:
        out.append(f"{marks[each.status]}  {each.name:<{width}}  {each.found}")
        if each.fix:
            out.append(f"{'':<6}  {'':<{width}}  fix: {each.fix}")
    broken = [each.name for each in lines if each.status == "broken"]
    out += ["", f"Broken: {', '.join(broken)}." if broken else "Everything a run needs is there."]
    return "\n".join(out)


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text.")] = False,
) -> None:
    """Examine machine, packages, cache and model; exit with 1 if something a run needs is broken."""
    lines = examine()
    broken = any(each.status == "broken" for each in lines)
    if as_json:
        typer.echo(json.dumps({"ok": not broken, "checks": [asdict(each) for each in lines]}, indent=2))
    else:
        typer.echo(render(lines))
    if broken:
        raise typer.Exit(1)
