"""Other people's constitutions → ours, with what could not be mapped.

Read are

    {"harmful0": {"prompt": "CritiqueRequest: …", "edit_request": "RevisionRequest: …"}, …}  the paper's repository
    [{"critic": …, "revision": …}, …], also inside {"constitutions": […]}                    lists of pairs
    ["Which of these replies is …?", …]                                                      questions of preference
    - **Title**: the rule                                                                    a Markdown list

Keys are compared without regard to case, hyphens and underscores. Nothing is invented: what a source does not have
stays empty, `Principle.phrasing` fills in, and `lint` says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from charter.constitution.principles import Constitution, Principle
from charter.errors import DataError

_KEYS: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "key"),
    "title": ("title", "name"),
    "text": ("text", "principle", "rule", "description", "content"),
    "reason": ("reason", "rationale", "why"),
    "critique": ("critique", "critic", "critiquerequest", "critiqueprompt", "prompt"),
    "revision": ("revision", "revisionrequest", "editrequest", "revisionprompt", "edit", "revise"),
    "preference": ("preference", "preferencerequest", "preferenceprompt", "question", "comparison"),
}
"""Field → the keys it is known under, written small and without signs; the first that is there counts."""
_WRAPPERS = ("constitutions", "constitution", "principles", "principle")
_REQUEST = re.compile(r"^\s*(?:critique|revision|edit)\s*request\s*:\s*", re.IGNORECASE)
_ANSWER = re.compile(r"\s*\b(?:critique|revision)\s*:\s*$", re.IGNORECASE)
_ITEM = re.compile(r"^( {0,3})(?:[-*+]|\d{1,3}[.)])\s+(.*)$")
_TITLED = re.compile(r"^(?:\*\*|__)(.+?)(?:\*\*|__)\s*[:.–—-]?\s*(.*)$", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """constitution: what could be read. unmapped: what could not, each with its place and what it was."""

    constitution: Constitution
    unmapped: tuple[str, ...]


def import_constitution(path: str | Path, name: str | None = None) -> Imported:
    """Read a file: JSON where it ends in .json, JSON lines in .jsonl, a Markdown list otherwise.

    Raises: DataError where it cannot be read, or holds nothing that looks like a principle.
    """
    file = Path(path)
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{file}: it cannot be read: {error.strerror}. Name a .json, .jsonl or .md file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: it is not UTF-8 text (byte {error.start}). Save it as UTF-8") from None
    name = name or _slug(file.stem)
    try:
        if file.suffix.lower() == ".jsonl":
            return import_json([_parsed(line, number) for number, line in _lines(text)], name)
        if file.suffix.lower() == ".json":
            return import_json(_parsed(text, 1), name)
        return import_markdown(text, name)
    except DataError as error:
        raise DataError(f"{file}: {error}") from None


def import_json(data: Any, name: str = "imported") -> Imported:
    """A constitution out of parsed JSON in one of the shapes of the module."""
    unmapped: list[str] = []
    entries = list(_entries(data, unmapped))
    principles = [principle for place, key, value in entries if (principle := _principle(place, key, value, unmapped))]
    if not principles:
        raise DataError(
            f"no principle was found in it{_listed(unmapped)}. Expected an object of objects with prompt and "
            "edit_request, or a list of objects with critic and revision"
        )
    return Imported(constitution=_constitution(name, principles), unmapped=tuple(unmapped))


def import_markdown(text: str, name: str = "imported") -> Imported:
    """A constitution out of a Markdown list; what stands before its first item becomes the prose.

    An item that begins with a bold phrase has it as title. An item further in belongs to the one above it; headings
    between items become tags.
    """
    items: list[tuple[int, str, str]] = []
    prose: list[str] = []
    unmapped: list[str] = []
    tag, open_item = "", False
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _ITEM.match(line):
            items.append((number, tag, found[2].strip()))
            open_item = True
        elif line.startswith("#"):
            tag, open_item = _slug(line.lstrip("#")), False
            if not items:
                prose.append(line)
        elif items and open_item and line.strip():
            start, its_tag, before = items[-1]
            added = re.sub(r"^\s*(?:[-*+]|\d{1,3}[.)])\s+", "", line).strip()
            items[-1] = (start, its_tag, f"{before} {added}")
        elif not items:
            prose.append(line)
        elif line.strip():
            unmapped.append(f"line {number}: text between the items: {line.strip()[:80]!r}")
        else:
            # after an empty line only what is indented still belongs to the item
            open_item = False
    if not items:
        raise DataError("no list was found in it. Write each principle as an item: - **Title**: the rule")
    while prose and (not prose[-1].strip() or prose[-1].startswith("##")):
        prose.pop()  # the heading of the first items is their tag
    tags = {tag for _, tag, _ in items}
    principles: list[Principle] = []
    for number, tag, item in items:
        titled = _TITLED.match(item)
        title, rule = (titled[1].strip(" .:"), titled[2].strip()) if titled else ("", item)
        rule = rule or title
        if not rule.strip():
            unmapped.append(f"line {number}: the item is empty")
            continue
        principles.append(
            Principle(
                id=_slug(title or " ".join(rule.split()[:5])), title=title, text=rule,
                tags=(tag,) if tag and len(tags) > 1 else (),
            )
        )  # fmt: skip
    if not principles:
        raise DataError(
            f"no principle was found in it{_listed(unmapped)}. Write each as an item: - **Title**: the rule"
        )
    constitution = replace(_constitution(name, principles), prose="\n".join(prose).strip())
    return Imported(constitution=constitution, unmapped=tuple(unmapped))


def _entries(data: Any, unmapped: list[str]) -> Iterator[tuple[str, str, Any]]:
    """(place, key or "", value) of everything that may be a principle."""
    if isinstance(data, Mapping):
        wrapped = [key for key in data if _plain(key) in _WRAPPERS and isinstance(data[key], list | Mapping)]
        if wrapped:
            unmapped += [f"{key}: {_said(value)}" for key, value in data.items() if key not in wrapped]
            for key in wrapped:
                for place, name, value in _entries(data[key], unmapped):
                    yield f"{key}{place}" if place.startswith("[") else f"{key}.{place}", name, value
        elif any(_field(key) in ("critique", "revision", "preference", "text") for key in data) and not any(
            isinstance(value, Mapping) for value in data.values()
        ):
            yield "[0]", "", data
        else:
            for key, value in data.items():
                yield str(key), str(key), value
    elif isinstance(data, Sequence) and not isinstance(data, str):
        for index, value in enumerate(data):
            yield f"[{index}]", "", value
    else:
        unmapped.append(f"the whole file: {_said(data)}")


def _principle(place: str, key: str, value: Any, unmapped: list[str]) -> Principle | None:
    if isinstance(value, str) and value.strip():
        asks = value.rstrip().endswith("?") or re.match(
            r"\W*(?:which|choose|please choose|pick|compare)\b", value, re.I
        )
        value = {"preference" if asks else "text": value}
    if not isinstance(value, Mapping):
        unmapped.append(f"{place}: {_said(value)}")
        return None
    found: dict[str, str] = {}
    for name in value:
        field = _field(name)
        if field is None or not isinstance(value[name], str):
            unmapped.append(f"{place}.{name}: {_said(value[name])}")
        elif field in found:
            unmapped.append(f"{place}.{name}: a second {field}: {_said(value[name])}")
        elif text := _request(value[name]):
            found[field] = text
    said = next((found[field] for field in ("text", "revision", "critique", "preference") if field in found), "")
    if not said:
        unmapped.append(f"{place}: it has no rule and no phrasing, but the keys {', '.join(map(str, value)) or 'none'}")
        return None
    id = _slug(found.pop("id", "") or key or found.get("title", ""))
    fields: dict[str, Any] = {"text": said, **found}
    return Principle(id=id, **fields)


def _field(key: Any) -> str | None:
    plain = _plain(key)
    return next((field for field, names in _KEYS.items() if plain in names), None)


def _plain(key: Any) -> str:
    return re.sub(r"[^a-z0-9]", "", str(key).lower())


def _request(text: str) -> str:
    """The sentence alone, without the frame of the paper's prompts around it."""
    return _ANSWER.sub("", _REQUEST.sub("", text)).strip()


def _constitution(name: str, principles: Sequence[Principle]) -> Constitution:
    """The principles with ids that differ: an empty one is numbered, a second of the same gets a number."""
    taken: set[str] = set()
    kept: list[Principle] = []
    for number, principle in enumerate(principles, start=1):
        id = stem = principle.id or f"principle-{number}"
        again = 2
        while id in taken:
            id, again = f"{stem}-{again}", again + 1
        taken.add(id)
        kept.append(replace(principle, id=id))
    return Constitution(name=name, principles=tuple(kept))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def _parsed(text: str, first_line: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line = first_line + getattr(error, "lineno", 1) - 1
        raise DataError(f"line {line}: it is not valid JSON: {getattr(error, 'msg', error)}. Correct it") from None


def _said(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:79] + "…"


def _listed(unmapped: Sequence[str]) -> str:
    return f" (not understood: {'; '.join(unmapped[:3])})" if unmapped else ""
