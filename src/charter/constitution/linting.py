"""What is doubtful about a constitution: each finding names the principle, the line where it is known, and a fix."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from charter.constitution.checks import program_problem
from charter.constitution.lines import line_of

if TYPE_CHECKING:
    from charter.constitution.principles import Constitution, Principle

SAME_SAYING = 0.4
"""Similarity from which two rules are taken for the same; see `similarity`."""

_WORD = re.compile(r"[^\W_]+")
_STOP = frozenset(
    re.findall(
        r"\w+",
        "a an and any are as at be by do does for from has have if in into is it its not of on or so that the their "
        "them they this to what when where which who with you your must should reply replies response answer assistant",
    )
)
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """kind: the name of the rule it breaks. principle: id, "" for the whole. found: what stands there. fix: what to do.

    where: file, line and key, as far as known.
    """

    kind: str
    principle: str
    where: str
    found: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.found}. {self.fix}"


def lint(constitution: Constitution) -> list[Finding]:
    """Everything doubtful, in the order of the file."""
    principles = constitution.principles
    findings = list(_whole(constitution))
    for index, principle in enumerate(principles):
        findings += _one(constitution, index, principle)
    for (i, one), (j, other) in combinations(enumerate(principles), 2):
        if one.id != other.id and (score := similarity(one.text, other.text)) >= SAME_SAYING:
            found = f"it says the same as {one.id!r} ({score:.2f} alike, from {SAME_SAYING} on is too much)"
            findings.append(
                _finding(constitution, "same-saying", j, "text", found, "Merge the two, or say what differs")
            )
        findings += _same_phrasing(constitution, i, j)
    return findings


def similarity(one: str, other: str) -> float:
    """How alike two sentences are, in [0, 1]: the larger of two Jaccard indices.

    J(A, B) = |A ∩ B| / |A ∪ B|, once over the words and once over their character trigrams; function words and
    endings are left out first. 1 for two texts of the same words, whatever their order and case. The shipped principles
    stay below 0.2 among themselves.
    """
    words = [set(_stems(text)) for text in (one, other)]
    grams = [{f" {word} "[i : i + 3] for word in those for i in range(len(word))} for those in words]
    return max(_jaccard(*words), _jaccard(*grams))


def _jaccard(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other) if one | other else 0.0


def _stems(text: str) -> Iterator[str]:
    for word in _WORD.findall(text.lower()):
        if word not in _STOP:
            yield re.sub(r"(?<=\w{3})(?:ing|ed|es|s|ly|e)$", "", word)


def _whole(constitution: Constitution) -> Iterator[Finding]:
    def whole(kind: str, key: str, found: str, fix: str) -> Finding:
        return _finding(constitution, kind, None, key, found, fix)

    if not constitution.name.strip():
        yield whole("no-name", "name", "it has no name", 'Add name = "…"')
    if not constitution.prose.strip():
        yield whole("no-prose", "prose", "nothing says what it is for", "Write a paragraph of Markdown in prose")
    if not constitution.principles:
        yield whole("no-principles", "principle", "it has no principles", "Write each as a [[principle]] table")
    elif all(principle.weight == 0 for principle in constitution.principles):
        yield whole("no-weight", "principle", "every weight is 0, so nothing can be drawn", "Give one a weight")


def _one(constitution: Constitution, index: int, principle: Principle) -> Iterator[Finding]:
    def here(kind: str, key: str, found: str, fix: str) -> Finding:
        return _finding(constitution, kind, index, key, found, fix)

    ids = constitution.ids
    if principle.id in ids[:index]:
        first = ids.index(principle.id) + 1
        yield here("duplicate-id", "id", f"{principle.id!r} is already the id of principle {first}", "Choose another")
    if not _SLUG.fullmatch(principle.id):
        yield here(
            "odd-id", "id", f"{principle.id!r} cannot name a metric or a file",
            "Use lower-case letters, digits and hyphens",
        )  # fmt: skip
    if not principle.text.strip():
        yield here("empty-text", "text", "the rule is empty", "Say it in one or two sentences")
    for key in ("critique", "revision", "preference"):
        if not getattr(principle, key).strip():
            fix = f"Write the sentence with which a model is asked; until then it is {principle.phrasing(key)!r:.90}"
            yield here("empty-phrasing", key, f"there is no phrasing for {key}", fix)
    if not principle.reason.strip():
        yield here("no-reason", "reason", "nothing says why it is there", "Give the reason in a sentence")
    if bad := _bad_weight(principle.weight):
        yield here(f"{bad}-weight", "weight", f"the weight is {principle.weight:g}", "Give a number from 0 up")
    if doubled := sorted(tag for tag, count in Counter(principle.tags).items() if count > 1):
        yield here("duplicate-tag", "tags", f"tags are given twice: {', '.join(doubled)}", "Name each once")
    if any(not tag.strip() for tag in principle.tags):
        yield here("empty-tag", "tags", "a tag is empty", "Remove it")
    yield from _checks(constitution, index, principle)


def _checks(constitution: Constitution, index: int, principle: Principle) -> Iterator[Finding]:
    seen: set[str] = set()
    for number, check in enumerate(principle.checks):
        question = " ".join(check.question.lower().split())

        def here(kind: str, key: str, found: str, fix: str, number: int = number) -> Finding:
            return _finding(constitution, kind, index, f"checks[{number}].{key}", found, fix)

        if not question:
            yield here("empty-question", "question", "the question is empty", "Ask something with a yes or a no")
        elif not question.endswith("?"):
            yield here(
                "no-question", "question", f"{check.question!r:.60} is no question", "End it with a question mark"
            )
        if question in seen:
            yield here("duplicate-check", "question", "the principle asks this already", "Remove one of the two")
        seen.add(question)
        if bad := _bad_weight(check.weight):
            yield here(f"{bad}-weight", "weight", f"the weight is {check.weight:g}", "Give a number from 0 up")
        if check.program is not None and (problem := program_problem(check.program)):
            yield here("unknown-program", "program", *problem)
    if principle.checks and all(check.weight == 0 for check in principle.checks):
        found = "every check has the weight 0, so they decide nothing"
        yield _finding(constitution, "no-weight", index, "checks", found, "Give one of them a weight")


def _same_phrasing(constitution: Constitution, i: int, j: int) -> Iterator[Finding]:
    one, other = constitution.principles[i], constitution.principles[j]
    for key in ("critique", "revision", "preference"):
        asked = " ".join(getattr(one, key).lower().split())
        if asked and asked == " ".join(getattr(other, key).lower().split()) and one.id != other.id:
            found = f"it is word for word the {key} of {one.id!r}"
            fix = "A model asked the same answers the same: say what is particular here"
            yield _finding(constitution, "same-phrasing", j, key, found, fix)


def _bad_weight(weight: float) -> str:
    if not math.isfinite(weight):
        return "endless"
    return "negative" if weight < 0 else ""


def _finding(constitution: Constitution, kind: str, index: int | None, key: str, found: str, fix: str) -> Finding:
    path: tuple[str | int, ...] = tuple(
        int(part) if part.isdecimal() else part for part in re.findall(r"[^.\[\]]+", key)
    )
    id, name = "", key
    if index is not None:
        id, path = constitution.principles[index].id, ("principle", index, *path)
        name = f"principle {id!r} {key}"
    line = line_of(path, dict(constitution.lines))
    source = constitution.source or constitution.name or "constitution"
    return Finding(kind=kind, principle=id, where=f"{source}{f':{line}' if line else ''} {name}", found=found, fix=fix)
