"""Where everything went: counts per stage and per principle, in which nothing is lost without a reason.

    {"stages": [{"name", "in", "out", "dropped": {reason: n}}, …],
     "principles": [{"id", "drawn", "issues", "unparsed", "revised", "accepted", "edit", "faults": {fault: n}}, …],
     "labels_stripped": n, "sentences_trimmed": n}

stages, in order: prompts, drafts, critiques (one entry per critique; direct revision has none), revisions (one per
request), acceptance, examples, helpful. In every stage in = out + the sum of dropped.
principles: drawn counts steps; issues and unparsed are critiques' verdicts; revised counts usable revisions; edit is
how much these changed of the reply before them (the mean of 1 − difflib's ratio over words), None without one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charter.constitution.drafting import Lost
from charter.constitution.records import Acceptance
from charter.constitution.similarity import edit_size
from charter.constitution.trajectories import Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage of the funnel: out = came_in − everything dropped."""

    name: str
    came_in: int
    dropped: Mapping[str, int]

    @property
    def out(self) -> int:
        """What went on."""
        return self.came_in - sum(self.dropped.values())

    def row(self) -> dict[str, Any]:
        """As the module's docstring has it; reasons that did not occur are left out."""
        dropped = {reason: count for reason, count in self.dropped.items() if count}
        return {"name": self.name, "in": self.came_in, "out": self.out, "dropped": dropped}


def critique_stage(trajectories: Sequence[Trajectory], lost: Sequence[Lost]) -> Stage:
    """Critiques; dropped are those that led to no revision."""
    made = [step.critique for step in _steps(trajectories) if step.critique is not None]
    failed = sum(one.stage == "critique" for one in lost)
    empty = sum(not critique.text for critique in made)
    sound = sum(critique.verdict == "none" for critique in made)
    dropped = {"nothing wrong": sound, "empty": empty, "failed": failed}
    return Stage(name="critiques", came_in=len(made) + failed, dropped=dropped)


def revision_stage(trajectories: Sequence[Trajectory], lost: Sequence[Lost]) -> Stage:
    """Revisions; dropped are those with a fault."""
    made = [step.revision for step in _steps(trajectories) if step.revision is not None]
    failed = sum(one.stage == "revision" for one in lost)
    faults = Counter(revision.fault for revision in made if revision.fault)
    dropped = {**dict(sorted(faults.items())), "failed": failed}
    return Stage(name="revisions", came_in=len(made) + failed, dropped=dropped)


def acceptance_stage(acceptances: Mapping[str, Acceptance]) -> Stage:
    """Usable revisions; dropped are those that were not accepted."""
    undecided = sum(one.p is None for one in acceptances.values())
    rejected = sum(one.p is not None and not one.accepted for one in acceptances.values())
    dropped = {"not better than the draft": rejected, "no opinion": undecided}
    return Stage(name="acceptance", came_in=len(acceptances), dropped=dropped)


def principle_rows(
    trajectories: Sequence[Trajectory],
    acceptances: Mapping[str, Acceptance],
    ids: Sequence[str],
    lost: Sequence[Lost] = (),
) -> list[dict[str, Any]]:
    """One row per principle, in the order of `ids`, those that were never drawn included."""
    rows = {
        id: {
            "id": id, "drawn": 0, "issues": 0, "unparsed": 0, "revised": 0, "accepted": 0, "edit": None,
            "faults": Counter[str](),
        }
        for id in ids
    }  # fmt: skip
    edits: dict[str, list[float]] = {id: [] for id in ids}
    for one in lost:
        if one.principle:
            rows[one.principle]["drawn"] += not one.critique  # with a critique its step is in the trajectory
            if one.stage == "revision":
                rows[one.principle]["faults"]["failed"] += 1
    for trajectory in trajectories:
        for critique, revision in trajectory.steps:
            made = critique or revision
            assert made is not None
            row = rows[made.principle]
            row["drawn"] += 1
            if critique is not None:
                row["issues"] += critique.verdict == "issue"
                row["unparsed"] += critique.verdict == "unparsed"
            if revision is None:
                continue
            if revision.fault:
                row["faults"][revision.fault] += 1
                continue
            row["revised"] += 1
            found = acceptances.get(revision.id)
            row["accepted"] += found is not None and found.accepted
            edits[made.principle].append(edit_size(trajectory.parent_text(revision), revision.text))
    for id, sizes in edits.items():
        rows[id]["edit"] = sum(sizes) / len(sizes) if sizes else None
        rows[id]["faults"] = dict(sorted(rows[id]["faults"].items()))
    return list(rows.values())


def funnel(
    stages: Sequence[Stage], principles: Sequence[Mapping[str, Any]], *, stripped: int, trimmed: int
) -> dict[str, Any]:
    """The whole, JSON-able, as the module's docstring has it.

    stripped, trimmed: usable revisions of which a label in front, or a torn last sentence, was taken off.
    """
    return {
        "stages": [stage.row() for stage in stages],
        "principles": [dict(row) for row in principles],
        "labels_stripped": stripped,
        "sentences_trimmed": trimmed,
    }


def _steps(trajectories: Sequence[Trajectory]) -> list[Any]:
    return [step for trajectory in trajectories for step in trajectory.steps]
