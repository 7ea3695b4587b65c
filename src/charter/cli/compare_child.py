"""One run of a comparison, in a process of its own, so that its peak of memory is its own.

    python -m charter.cli.compare_child train|measure FOLDER NAME

FOLDER/jobs/NAME.json and NAME.toml say what to do. `train` leaves an ordinary run in FOLDER/NAME and the peak in
FOLDER/measured/NAME.memory.json; `measure` judges it and leaves FOLDER/measured/NAME.json. Either goes on where a
killed one stopped.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STOPPED = 3
"""Exit code of a child that was asked to stop, with everything saved."""


def spent(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What the steps of a run took so far: {"tokens": sampled, "seconds": in steps}."""
    return {
        "tokens": float(sum(row.get("tokens/sampled") or 0.0 for row in rows)),
        "seconds": float(sum(row.get("time/step_s") or 0.0 for row in rows)),
    }


def reached(rows: Sequence[Mapping[str, Any]], budget: Mapping[str, float | None]) -> bool:
    """Whether a run has spent its budget {"tokens", "seconds"}, of which one is None."""
    taken = spent(rows)
    return any(limit is not None and taken[kind] >= limit for kind, limit in budget.items())


def memory_now() -> dict[str, int]:
    """This process's memory in bytes: {"resident", "peak", "ru_maxrss"}, and "device_peak" where CUDA is in use.

    peak is the kernel's high-water mark of this program (VmHWM); ru_maxrss may also hold what the parent took when it
    started it, so it stands beside, and in the place of peak where there is no /proc.
    """
    scale = 1 if sys.platform == "darwin" else 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    found = {"resident": largest, "peak": largest, "ru_maxrss": largest}
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key in ("VmRSS", "VmHWM"):
            found["resident" if key == "VmRSS" else "peak"] = int(value.split()[0]) * 1024
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        found["device_peak"] = int(torch.cuda.max_memory_allocated())
    return found


def train(folder: Path, name: str) -> int:
    """Train to the budget; the exit code."""
    from charter.cli.session import StopRequest
    from charter.cli.train import run_recipe
    from charter.recipe import load_recipe
    from charter.run.atomic import write_text

    job = json.loads((folder / "jobs" / f"{name}.json").read_text("utf-8"))
    recipe = load_recipe(folder / "jobs" / f"{name}.toml")
    if not recipe.samples:  # given pairs: what scores completions would be loaded, and in the peak, for nothing
        recipe = recipe.model_copy(update={"rewards": []})
    own, note = folder / name, folder / "measured" / f"{name}.memory.json"
    before = json.loads(note.read_text("utf-8")) if note.is_file() else None
    baseline = memory_now()["resident"]  # torch is loaded, and nothing that is a method's own
    stop, parent = StopRequest(), os.getppid()

    def enough(rows: Sequence[Mapping[str, Any]]) -> bool:
        if os.getppid() != parent:
            stop.asked = True  # nobody waits for this run any more
        if any(row["step"] > 0 for row in rows):
            now = memory_now()
            peaks = {key: max(now[key], (before or {}).get(key, 0)) for key in now if key != "resident"}
            write_text(note, json.dumps({**peaks, "baseline": baseline}) + "\n")
        return reached(rows, job["budget"])

    outcome = run_recipe(
        recipe, own, resume=(own / "recipe.toml").is_file(), plain=True, stop=stop, enough=enough, judge=False
    )
    return 0 if outcome.finished else STOPPED


def main() -> None:
    """Entry point; errors end in their sentence."""
    from charter.errors import CharterError

    what, folder, name = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    try:
        if what == "train":
            sys.exit(train(folder, name))
        from charter.cli.compare_measure import measure

        measure(folder, name)
    except CharterError as error:
        print(f"charter: {name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(STOPPED)


if __name__ == "__main__":
    main()
