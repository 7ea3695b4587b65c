"""What the stages of a constitutional run left, put together for its report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charter.cli.cai_run import CaiRun
    from charter.train.pipeline import Finished


def report_of(run: CaiRun, finished: Sequence[Finished]) -> dict[str, Any]:
    """The report of a run whose stages are finished, ready for report.json."""
    from charter.cli.calibrating import read_calibration
    from charter.cli.report_lives import choose_lives
    from charter.evaluate.report import Findings, build_report
    from charter.run.records import read_records

    results = {stage.name: stage.result for stage in finished}
    arena = results.get("arena", {})
    path = run.folder / "funnel.json"
    funnel = json.loads(path.read_text("utf-8")) if path.is_file() else None
    return build_report(
        Findings(
            name=run.folder.name,
            model=run.recipe.model,
            constitution=run.constitution.name,
            funnel=funnel,
            principles=_principles(run, (funnel or {}).get("principles", ())),
            calibration=read_calibration(run.folder),
            preference_model=results.get("preference", {}).get("measured"),
            arena=arena.get("arena"),
            effect=arena.get("effect"),
            helpfulness=arena.get("helpfulness"),
            seconds={stage.name: stage.seconds for stage in finished},
            cost={stage.name: stage.result["usage"] for stage in finished if "usage" in stage.result},
            lives=choose_lives(read_records(run.journal.path), seed=run.recipe.seed),
            notes=_notes(results),
        )
    )


def _principles(run: CaiRun, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """A row per principle; where the judge was asked under all of them, with what each brings to its verdicts.

    rows: of the funnel. agreement, flips: shares, as `charter constitution ablate` has them. None where nothing is
    known.
    """
    from charter.cli.constitution_ablate import judged_records
    from charter.constitution.ablate import ablation
    from charter.errors import UsageError

    found: dict[str, dict[str, Any]] = {row["id"]: dict(row) for row in rows}
    if run.recipe.judge.ensemble == "all":
        try:
            brought = ablation(judged_records(run.folder))["principles"]
        except UsageError:  # one principle alone, or no pair was judged
            brought = []
        for one in brought:
            told = {"agreement": one["agreement"], "flips": one["flip_share"], "judged": one["pairs"]}
            found.setdefault(one["id"], {"id": one["id"]}).update(told)
    return list(found.values()) or None


def _notes(results: dict[str, Any]) -> list[str]:
    """What a reader must know that no figure says."""
    notes: list[str] = []
    label = results.get("label")
    if label and label["labelled_by"] == "human":
        notes.append(
            f"The judge labelled nothing: people decided all {label['rows']} pairs to learn a preference from."
        )
    return [*notes, *results.get("arena", {}).get("notes", ())]
