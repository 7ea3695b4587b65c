"""Stages one after the other, each done once: what finished is written down, what was cut short goes on by itself.

    runs/<name>/stages.json     {"format": 1, "stages": [{"name", "inputs", "seconds", "result"}, …]}
    runs/<name>/<stage>/        what the stage keeps there; it resumes from that when it is called again

Knows no kind of stage: a training run, a round of questions to a judge and a report are the same to it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from charter.errors import RunError, StoreError

FORMAT = 1
FILE = "stages.json"


class StageStopped(RunError):  # noqa: N818 - reads as the condition it names
    """A stage was asked to stop before its end; what it did is saved, and the next start goes on with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One piece of a pipeline.

    name: of its folder. run: called with that folder, and called again after an interruption: it goes on with what it
    finds there. Its result (JSON-able) is what the pipeline remembers. inputs: what the result depends on, beside the
    stages before it: names and hashes, or one hash.
    """

    name: str
    run: Callable[[Path], Awaitable[Mapping[str, Any]]]
    inputs: Mapping[str, str] | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A stage that is done. seconds: wall time of the call that finished it. result: as the stage told it."""

    name: str
    inputs: Mapping[str, str]
    seconds: float
    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a pipeline says of a stage as it comes to it.

    what: skipped (it was finished before), begins, or ends. number: counted from 1, of `of` stages. finished: None
    while it begins.
    """

    what: Literal["skipped", "begins", "ends"]
    name: str
    number: int
    of: int
    finished: Finished | None = None


async def run_stages(
    stages: Sequence[Stage],
    folder: Path,
    report: Callable[[Turn], None] | None = None,
    *,
    write: Callable[[Path, str], object],
) -> list[Finished]:
    """Run stages in order, each in a folder of its own, and leave out those that finished before.

    Args:
        stages: in their order; a stage may read what those before it left in their folders.
        folder: of the pipeline; the caller holds it against other writers. report: told of each stage's turn.
        write: writes a text whole or not at all.

    Returns:
        every stage's record, those of earlier starts as they were written then.

    Raises:
        StoreError: where a finished stage is not the one that stands there now, or its inputs changed: the message
            names them. StageStopped, and whatever a stage raises: the stages before it stay finished.
    """
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names):
        raise ValueError(f"two stages have one name: {', '.join(names)}")
    done = list(read_finished(folder))
    refuse_other_stages(done, stages, folder)
    for number, stage in enumerate(stages, start=1):
        turn = {"name": stage.name, "number": number, "of": len(stages)}
        if number <= len(done):
            _tell(report, Turn(what="skipped", finished=done[number - 1], **turn))
            continue
        _tell(report, Turn(what="begins", **turn))
        began = time.perf_counter()
        result = await stage.run(folder / stage.name)
        seconds = round(time.perf_counter() - began, 3)
        finished = Finished(name=stage.name, inputs=named_inputs(stage), seconds=seconds, result=dict(result))
        done.append(finished)
        folder.mkdir(parents=True, exist_ok=True)
        record = {"format": FORMAT, "stages": [asdict(one) for one in done]}
        write(folder / FILE, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        _tell(report, Turn(what="ends", finished=finished, **turn))
    return done


def read_finished(folder: Path) -> tuple[Finished, ...]:
    """The finished stages of a pipeline's folder, in order; none where it has not begun.

    Raises: StoreError for a file that is damaged.
    """
    file = folder / FILE
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{file} cannot be read: {error}") from error
    try:
        record = json.loads(text)
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']!r}, and this is Charter's format {FORMAT}")
        return tuple(Finished(**{key: row[key] for key in Finished.__slots__}) for row in record["stages"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{file} is not a record of finished stages ({type(error).__name__}: {error}). Restore it from a copy, or "
            "delete it: every stage then looks at its own folder, and what is done there is not done again."
        ) from error


def named_inputs(stage: Stage) -> dict[str, str]:
    """The inputs of a stage by name; one hash alone is called `inputs`."""
    return {"inputs": stage.inputs} if isinstance(stage.inputs, str) else dict(stage.inputs)


def refuse_other_stages(done: Sequence[Finished], stages: Sequence[Stage], folder: Path) -> None:
    """Raises StoreError where what finished is not what would run now."""
    way_out = "Put it back, or begin another run (name=… or --run-dir …)."
    for index, old in enumerate(done):
        if index >= len(stages) or stages[index].name != old.name:
            now = f"{stages[index].name!r}" if index < len(stages) else "none"
            raise StoreError(
                f"{folder}: stage {index + 1} finished as {old.name!r}, and now it is {now}. The stages that are done "
                f"must stay the first ones, in their order. {way_out}"
            )
        now_inputs = named_inputs(stages[index])
        for key in [*old.inputs, *(key for key in now_inputs if key not in old.inputs)]:
            before, after = old.inputs.get(key), now_inputs.get(key)
            if before != after:
                raise StoreError(
                    f"{folder}: the stage {old.name!r} is finished, and its {key} changed since "
                    f"({_short(before)}; now {_short(after)}), so what follows would rest on something else. {way_out}"
                )


def _tell(report: Callable[[Turn], None] | None, turn: Turn) -> None:
    if report is not None:
        report(turn)


def _short(value: str | None) -> str:
    return "none" if value is None else value if len(value) <= 40 else f"{value[:12]}…"
