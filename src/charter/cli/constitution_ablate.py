"""`charter constitution ablate RECIPE|RUN`: what each principle brings to the labels; nobody is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def command(
    source: Annotated[str, typer.Argument(metavar="RECIPE|RUN", help="A run folder, or the recipe of one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text.")] = False,
) -> None:
    """Leave out each principle in turn, from the judgements that a run has (judge.ensemble = "all")."""
    found = ablated(source)
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else render(found))


def ablated(source: str) -> dict[str, Any]:
    """The ablation of a run folder, or of a recipe's. Raises: UsageError where there is nothing to leave out."""
    from charter.cli.cai_run import folder_of
    from charter.constitution.ablate import ablation
    from charter.recipe import load_cai_recipe

    folder = Path(source)
    if not folder.is_dir():
        folder = folder_of(load_cai_recipe(source), source, None)
    return ablation(judged_records(folder))


def judged_records(folder: Path) -> list[dict[str, Any]]:
    """The records of a run: its own, and those of its calibration. Raises: UsageError where it has neither."""
    from charter.cli.cai_run import RECORDS
    from charter.cli.calibrating import RECORDS as CALIBRATED
    from charter.errors import UsageError
    from charter.run.records import read_records

    there = [folder / name for name in (RECORDS, CALIBRATED) if (folder / name).is_file()]
    if not there:
        raise UsageError(f"{folder} holds no records. Give a run folder, or run `charter calibrate` first")
    return [row for path in there for row in read_records(path)]


def render(found: dict[str, Any]) -> str:
    """The principles, those that matter most first."""
    left = f"; {found['left_out']} left out, because a judgement is missing" if found["left_out"] else ""
    width = max(len("principle"), *(len(row["id"]) for row in found["principles"]))
    lines = [
        f"{found['pairs']} pairs that were judged under several principles{left}",
        "",
        f"{'principle':<{width}} {'flips':>12} {'agrees':>8} {'shift':>7}",
    ]
    for row in found["principles"]:
        agrees = "—" if row["agreement"] is None else f"{row['agreement']:.0%}"
        flips = f"{row['flips']} ({row['flip_share']:.0%})"
        lines.append(f"{row['id']:<{width}} {flips:>12} {agrees:>8} {row['shift']:>7.3f}")
    lines += ["", "flips: labels that change sides without the principle. agrees: with the mean of the others."]
    return "\n".join([*lines, "shift: mean change of p without it."])
