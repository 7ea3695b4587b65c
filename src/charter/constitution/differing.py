"""What changed between two constitutions, principle by principle and word by word."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charter.constitution.principles import Constitution, Principle


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One field that differs. id: the principle's, "" for the constitution's own fields.

    text: the words that went and came, `one [-old-]{+new+} word`.
    """

    id: str
    field: str
    before: Any
    after: Any
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """added, removed: principles only the second or only the first constitution has. changed: fields that differ in
    principles both have, and in the constitutions' own name, version and prose. moved: whether those that both have
    come in another order, which changes nothing that is drawn or judged.
    """

    added: tuple[Principle, ...]
    removed: tuple[Principle, ...]
    changed: tuple[Change, ...]
    moved: bool = False

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.moved)


def difference(old: Constitution, new: Constitution) -> Difference:
    """What turns `old` into `new`; principles are the same where their ids are (the first of an id counts)."""
    before, after = _by_id(old), _by_id(new)
    common = [id for id in before if id in after]
    changes = [
        _change("", name, getattr(old, name), getattr(new, name))
        for name in ("name", "version", "prose")
        if getattr(old, name) != getattr(new, name)
    ]
    for id in common:
        for field in fields(before[id]):
            one, other = getattr(before[id], field.name), getattr(after[id], field.name)
            if one != other:
                changes.append(_change(id, field.name, one, other))
    return Difference(
        added=tuple(principle for id, principle in after.items() if id not in before),
        removed=tuple(principle for id, principle in before.items() if id not in after),
        changed=tuple(changes),
        moved=common != [id for id in after if id in before],
    )


def word_diff(before: str, after: str) -> str:
    """One text with the words that went in [-…-] and those that came in {+…+}."""
    old, new = (re.findall(r"\s+|[\w'’-]+|[^\w\s]", text) for text in (before, after))
    out: list[str] = []
    for kind, i, j, k, m in difflib.SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        went, came = "".join(old[i:j]), "".join(new[k:m])
        if kind == "equal":
            out.append(went)
        else:
            out += [f"[-{went}-]" if went else "", f"{{+{came}+}}" if came else ""]
    return "".join(out)


def _by_id(constitution: Constitution) -> dict[str, Principle]:
    found: dict[str, Principle] = {}
    for principle in constitution.principles:
        found.setdefault(principle.id, principle)
    return found


def _change(id: str, field: str, before: Any, after: Any) -> Change:
    return Change(id=id, field=field, before=before, after=after, text=word_diff(_said(before), _said(after)))


def _said(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return "\n".join(
            item if isinstance(item, str)
            else f"{item.question} (wanted {'yes' if item.wanted else 'no'}, weight {item.weight:g}"
            + (f", program {item.program})" if item.program else ")")
            for item in value
        )  # fmt: skip
    return f"{value:g}"
