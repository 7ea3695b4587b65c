"""Lives of records in a report: prompt, draft, each critique and revision with what changed, and the verdicts."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from charter.cli.pages.text import escape, number, word_diff

Table = Mapping[str, Any]


def choose_lives(rows: Sequence[Table], *, count: int = 3, seed: int = 0) -> list[dict[str, Any]]:
    """Lives of `count` drafts with a revision, drawn by the seed. rows: of a journal."""
    from charter.constitution.life import life

    revised = {row["draft"] for row in rows if row["kind"] == "revision"}
    drafts = sorted(row["id"] for row in rows if row["kind"] == "draft" and row["id"] in revised)
    chosen = random.Random(seed).sample(drafts, min(count, len(drafts)))
    return [life(rows, id) for id in chosen]


def lives_section(lives: Sequence[Table]) -> str:
    """HTML of the lives, or nothing where there are none."""
    if not lives:
        return ""
    head = "Three lives" if len(lives) == 3 else "Lives"
    note = "Records drawn at random, not chosen. In a revision, what is new is marked and what is gone struck through."
    return f"<h2>{head}</h2><p class=lead>{note}</p>{''.join(map(_life, lives))}"


def _life(told: Table) -> str:
    parts: list[str] = []
    for message in (told.get("prompt") or {}).get("messages") or ():
        parts.append(_said(str(message["role"]), escape(message["content"])))
    draft = told.get("draft")
    if draft is not None:
        parts.append(_said(f"draft by {draft.get('model', 'the author')}", escape(draft["text"])))
    before = str(draft["text"]) if draft is not None else ""
    texts = {draft["id"]: before} if draft is not None else {}
    for number_of, step in enumerate(told.get("steps") or (), start=1):
        critique, revision = step.get("critique"), step.get("revision")
        if critique is not None:
            verdict = {"issue": "an issue", "none": "nothing wrong"}.get(critique["verdict"], "could not be read")
            parts.append(_said(f"critique {number_of} under {step['principle']}: {verdict}", escape(critique["text"])))
        if revision is None:
            continue
        texts[revision["id"]] = str(revision["text"])
        parent = texts.get(revision.get("parent"), before)
        parts.append(_said(f"revision {number_of} under {step['principle']}", word_diff(parent, str(revision["text"]))))
        parts.append(_verdict(revision, step))
    return f"<article class=life>{''.join(parts)}</article>"


def _said(who: str, html: str) -> str:
    return f'<p class=who>{escape(who)}</p><div class=said dir="auto">{html or "(nothing)"}</div>'


def _verdict(revision: Table, step: Table) -> str:
    acceptance = step.get("acceptance")
    if revision.get("fault"):
        words = f"Not used: {str(revision['fault']).replace('_', ' ')}."
    elif acceptance is None:
        words = "Not yet compared with its draft."
    else:
        p = f", p = {number(acceptance['p'])}" if acceptance.get("p") is not None else ", no opinion"
        reason = f" {acceptance['reason']}." if acceptance.get("reason") else ""
        words = f"{'Accepted' if acceptance['accepted'] else 'Not accepted'} by {acceptance['by']}{p}.{reason}"
    asked = " ".join(
        f"Order {one['order']}: {number(one['p_a'])}." for one in step.get("judgements") or () if one["p_a"] is not None
    )
    return f"<p class=verdict>{escape(' '.join(filter(None, [words, asked])))}</p>"
