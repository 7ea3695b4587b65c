"""The life of a record, put together from the rows of a journal: what it came from and what was made of it.

    {"id", "kind", "record", "prompt": {"id", "messages"}, "draft": row | None,
     "steps": [{"principle", "critique", "revision", "acceptance", "preference", "judgements"}, …],
     "completions": [row, …], "preferences": [{"preference", "judgements"}, …]}

A step's parts are rows, or None; judgements are in the order in which they were asked. completions and preferences are
those of the feedback stage, for a record that belongs to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from charter.constitution.trajectories import trajectories
from charter.errors import UsageError

Row = Mapping[str, Any]
PROMPT = "prompt"
"""The kind that a prompt's id is listed under; prompts have no record of their own."""


def find_ids(rows: Iterable[Row], beginning: str) -> list[tuple[str, str]]:
    """(id, kind) of everything whose id begins so; only the one that fits exactly, where there is one."""
    found: dict[str, str] = {}
    for row in rows:
        names = [(row["id"], row["kind"])]
        if row["kind"] in ("draft", "completion"):
            names.append((row["prompt_id"], PROMPT))
        found.update({id: kind for id, kind in names if id.startswith(beginning) and id not in found})
    return [(beginning, found[beginning])] if beginning in found else list(found.items())


def life(rows: Sequence[Row], id: str) -> dict[str, Any]:
    """The life that the record or prompt of this id is part of. Raises: UsageError where there is none."""
    by_id: dict[str, Row] = {row["id"]: row for row in rows}
    names = find_ids(rows, id)
    if len(names) != 1 or names[0][0] != id:
        raise UsageError(f"there is no record {id!r}")
    record = by_id.get(id)
    draft_ids = _drafts(rows, by_id, id)
    told: dict[str, Any] = {
        "id": id, "kind": names[0][1], "record": record, "prompt": None, "draft": None, "steps": [],
        "completions": [], "preferences": [],
    }  # fmt: skip
    if draft_ids:
        draft = by_id[draft_ids[0]]
        told["draft"], told["prompt"] = draft, {"id": draft["prompt_id"], "messages": draft["messages"]}
        told["steps"] = _steps(rows, by_id, draft)
        return told
    completions = _completions(rows, by_id, id)
    if completions:
        first = completions[0]
        told["prompt"] = {"id": first["prompt_id"], "messages": first["messages"]}
        told["completions"] = completions
        ids = {row["id"] for row in completions}
        told["preferences"] = [
            {"preference": row, "judgements": _judgements(by_id, row)}
            for row in rows
            if row["kind"] == "preference" and {row["a"], row["b"]} <= ids
        ]
    return told


def ids_of(told: Mapping[str, Any]) -> set[str]:
    """The ids of everything in a life."""
    rows: list[Row | None] = [told["record"], told["draft"], *told["completions"]]
    for step in told["steps"]:
        rows += [step["critique"], step["revision"], step["acceptance"], step["preference"], *step["judgements"]]
    for pair in told["preferences"]:
        rows += [pair["preference"], *pair["judgements"]]
    return {row["id"] for row in rows if row is not None}


def _drafts(rows: Sequence[Row], by_id: Mapping[str, Row], id: str) -> list[str]:
    """Ids of the drafts that a record goes back to; of a prompt, those written for it, red-team ones first."""
    row = by_id.get(id)
    if row is None:
        return [one["id"] for one in rows if one["kind"] == "draft" and one["prompt_id"] == id]
    if row["kind"] == "draft":
        return [id]
    if row["kind"] in ("revision", "acceptance"):
        return [row["draft"]] if row["draft"] in by_id else []
    parents = {"critique": ("target",), "judgement": ("a", "b"), "preference": ("a", "b")}.get(row["kind"], ())
    for parent in parents:
        if row[parent] in by_id and (found := _drafts(rows, by_id, row[parent])):
            return found
    return []


def _steps(rows: Sequence[Row], by_id: Mapping[str, Row], draft: Row) -> list[dict[str, Any]]:
    accepted = {row["revision"]: row for row in rows if row["kind"] == "acceptance"}  # the newest of each
    lives = {one.draft.id: one for one in trajectories(rows)}
    found: list[dict[str, Any]] = []
    for step in lives[draft["id"]].steps if draft["id"] in lives else ():
        revision = by_id[step.revision.id] if step.revision is not None else None
        acceptance = accepted.get(revision["id"]) if revision is not None else None
        preference = by_id.get(acceptance["preference"] or "") if acceptance is not None else None
        found.append(
            {
                "principle": step.principle,
                "critique": by_id[step.critique.id] if step.critique is not None else None,
                "revision": revision,
                "acceptance": acceptance,
                "preference": preference,
                "judgements": _judgements(by_id, preference) if preference is not None else [],
            }
        )
    return found


def _completions(rows: Sequence[Row], by_id: Mapping[str, Row], id: str) -> list[Row]:
    """All replies to the prompt of the feedback stage that a record belongs to."""
    row = by_id.get(id)
    if row is not None and row["kind"] in ("judgement", "preference"):
        row = by_id.get(row["a"]) or by_id.get(row["b"])
    prompt = id if row is None else row.get("prompt_id")
    return [one for one in rows if one["kind"] == "completion" and one["prompt_id"] == prompt]


def _judgements(by_id: Mapping[str, Row], preference: Row) -> list[Row]:
    return [by_id[member] for member in preference["members"] if member in by_id]
