"""A draft and what became of it, step by step: as the stage makes it, or rebuilt from records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from charter.constitution.records import Acceptance, Critique, Draft, Revision
from charter.types import Prompt


class Step(NamedTuple):
    """One step: a critique (None in direct revision) and the revision it led to (None where nothing was wrong)."""

    critique: Critique | None
    revision: Revision | None

    @property
    def principle(self) -> str:
        """Id of the principle that was drawn."""
        if self.critique is not None:
            return self.critique.principle
        return self.revision.principle if self.revision is not None else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """The life of a draft: prompt, draft, ((critique, revision), …)."""

    prompt: Prompt
    draft: Draft
    steps: tuple[Step, ...]

    @property
    def revisions(self) -> tuple[Revision, ...]:
        """All of them, in the order of their steps."""
        return tuple(step.revision for step in self.steps if step.revision is not None)

    @property
    def usable(self) -> tuple[Revision, ...]:
        """The revisions without a fault."""
        return tuple(revision for revision in self.revisions if not revision.fault)

    def parent_text(self, revision: Revision) -> str:
        """The reply that a revision rewrites."""
        if revision.parent == self.draft.id:
            return self.draft.text
        return next(other.text for other in self.revisions if other.id == revision.parent)


def trajectories(rows: Iterable[Mapping[str, Any]]) -> tuple[Trajectory, ...]:
    """Every red-team draft's life out of the rows of a journal, in the order in which the drafts were written.

    A critique that is said twice of the same reply under the same principle is one record, and here one step.
    """
    drafts: dict[str, Draft] = {}
    critiques: dict[str, Critique] = {}
    revisions: dict[str, list[Revision]] = {}
    order: dict[str, int] = {}
    for number, row in enumerate(rows):
        if row["kind"] == "draft" and row["purpose"] == "redteam":
            drafts[row["id"]] = Draft.of(row)
        elif row["kind"] == "critique":
            order[row["id"]] = number
            critiques[row["id"]] = Critique.of(row)
        elif row["kind"] == "revision":
            order[row["id"]] = number
            revisions.setdefault(row["draft"], []).append(Revision.of(row))
    of_target: dict[str, list[str]] = {}
    for id, critique in critiques.items():
        of_target.setdefault(critique.target, []).append(id)
    found: list[Trajectory] = []
    for id, draft in drafts.items():
        made = sorted(revisions.get(id, ()), key=lambda revision: revision.step)
        answered = {revision.critique for revision in made}
        targets = [id, *(revision.id for revision in made)]
        alone = [name for target in targets for name in of_target.get(target, ()) if name not in answered]
        # A step's critiques are written before its revisions, and these before the next step's critiques.
        steps = [(order[one.id], Step(critiques.get(one.critique or ""), one)) for one in made]
        steps += [(order[name], Step(critiques[name], None)) for name in alone]
        prompt = Prompt(id=draft.prompt_id, messages=draft.messages)
        ordered = tuple(step for _, step in sorted(steps, key=lambda pair: pair[0]))
        found.append(Trajectory(prompt=prompt, draft=draft, steps=ordered))
    return tuple(found)


def acceptances(rows: Iterable[Mapping[str, Any]]) -> dict[str, Acceptance]:
    """Revision's id → its newest acceptance: what had no opinion once may have one after the next run."""
    return {row["revision"]: Acceptance.of(row) for row in rows if row["kind"] == "acceptance"}
