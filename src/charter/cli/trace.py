"""`charter trace ID`: the life of one record, from its prompt to where it was used."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from charter.cli.display import clean

RED, GREEN, BOLD, DIM, PLAIN = "\x1b[31;9m", "\x1b[32m", "\x1b[1m", "\x1b[2m", "\x1b[0m"
USED_IN = ("sft.jsonl", "preferences.jsonl")
"""Files of a run whose rows say which records they were made of."""
LISTED = 20
"""Records that are listed where the beginning of an id fits several."""


def command(
    id: Annotated[str, typer.Argument(help="Id of a record or a prompt, or how it begins.")],
    run_dir: Annotated[str | None, typer.Option(help="Folder of the run; every run under runs/ when left out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text.")] = False,
) -> None:
    """Print the life of one record: prompt, draft, critiques, revisions with their changes, judgements, and its use."""
    from charter.constitution.life import life

    folder, rows, found = find_record(id, [Path(run_dir)] if run_dir else run_folders())
    told = {"run": str(folder), **life(rows, found)}
    told["used"] = used_in(folder, told)
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    typer.echo(render(told, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR")))


def run_folders() -> list[Path]:
    """The folders under runs/ that have records."""
    return sorted(path.parent for path in Path("runs").glob("*/records.jsonl"))


def find_record(beginning: str, folders: Sequence[Path]) -> tuple[Path, list[dict[str, Any]], str]:
    """(run folder, its rows, the whole id) of the one record whose id begins so.

    Raises: UsageError where there is none, or several: the message lists them; StoreError for a folder without records.
    """
    from charter.constitution.life import find_ids
    from charter.errors import StoreError, UsageError
    from charter.run.records import read_records

    if not beginning:
        raise UsageError("the id is empty: give at least its first characters")
    found: list[tuple[Path, list[dict[str, Any]], str, str]] = []
    for folder in folders:
        path = folder / "records.jsonl"
        if not path.is_file():
            raise StoreError(f"{folder} has no records.jsonl: it is no constitutional run, or has not begun.")
        rows = read_records(path)
        found += [(folder, rows, name, kind) for name, kind in find_ids(rows, beginning)]
    exact = [one for one in found if one[2] == beginning]
    chosen = exact or found
    if len(chosen) == 1:
        folder, rows, name, _ = chosen[0]
        return folder, rows, name
    if not chosen:
        where = ", ".join(map(str, folders)) or "runs/ (it has no constitutional run)"
        raise UsageError(f"no record in {where} has an id that is or begins with {beginning!r}.")
    listed = "\n".join(f"  {name}  {kind:<10}  {folder}" for folder, _, name, kind in chosen[:LISTED])
    more = f"\n  … {len(chosen) - LISTED} more" if len(chosen) > LISTED else ""
    fix = "Choose a run with --run-dir" if len({one[2] for one in chosen}) == 1 else "Give more of the id"
    raise UsageError(f"{beginning!r} fits {len(chosen)} records. {fix}:\n{listed}{more}")


def used_in(folder: Path, told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the run's exports that name one of the records of a life: file, line (from 1) and the record's id."""
    from charter.constitution.life import ids_of
    from charter.errors import StoreError

    ids = ids_of(told)
    found: list[dict[str, Any]] = []
    for name in USED_IN:
        path = folder / name
        if not path.is_file():
            continue
        for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
            if not line:
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise StoreError(
                    f"{path}:{number} is not JSON ({error}). Write it again with the run's stage"
                ) from None
            named = next((value for value in row.values() if isinstance(value, str) and value in ids), None)
            if named is not None:
                found.append({"file": name, "line": number, "id": named})
    return found


def word_diff(before: str, after: str, *, colour: bool) -> str:
    """What changed from one text to the other, word by word: red and struck out, green; or [-old-] and {+new+}."""
    old, new = before.split(), after.split()
    marks = ((RED, PLAIN), (GREEN, PLAIN)) if colour else (("[-", "-]"), ("{+", "+}"))
    parts: list[str] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            parts.append(clean(" ".join(old[a:b])))
            continue
        for (opening, closing), words in zip(marks, (old[a:b], new[c:d]), strict=True):
            if words:
                parts.append(f"{opening}{clean(' '.join(words))}{closing}")
    return " ".join(parts)


def render(told: Mapping[str, Any], *, colour: bool) -> str:
    """The life as text; the record that was asked for is marked with ▸."""
    paint = _Paint(told["id"], colour)
    lines = [f"{told['kind']} {told['id']} in {told['run']}"]
    if told["prompt"] is not None:
        lines += ["", paint.head("prompt", told["prompt"]["id"])]
        lines += [f"  {clean(turn['role'])}: {_block(turn['content'])}" for turn in told["prompt"]["messages"]]
    draft = told["draft"]
    if draft is not None:
        lines += ["", paint.head("draft", draft["id"], f"by {draft['model']}, for {draft['purpose']}")]
        lines.append(f"  {_block(draft['text'])}")
    texts = {draft["id"]: draft["text"]} if draft is not None else {}
    for number, step in enumerate(told["steps"], start=1):
        lines += _step(number, step, texts, paint)
    for completion in told["completions"]:
        lines += ["", paint.head("completion", completion["id"], f"by {completion['model']}")]
        lines.append(f"  {_block(completion['text'])}")
    for pair in told["preferences"]:
        lines += ["", *_preference(pair["preference"], pair["judgements"], paint)]
    if told["prompt"] is None and told["record"] is not None:
        lines += ["", clean(json.dumps(told["record"], indent=2, ensure_ascii=False))]
    used = [f"  {one['file']} line {one['line']} ({one['id']})" for one in told["used"]]
    return "\n".join([*lines, "", paint.bold("used in"), *(used or ["  nothing"])])


def _step(number: int, step: Mapping[str, Any], texts: dict[str, str], paint: _Paint) -> list[str]:
    lines = ["", paint.bold(f"step {number}: principle {step['principle']}")]
    critique, revision, acceptance = step["critique"], step["revision"], step["acceptance"]
    if critique is not None:
        lines.append(f"  {paint.head('critique', critique['id'], critique['verdict'])}")
        lines.append(f"    {_block(critique['text'], 4)}")
    if revision is None:
        return [*lines, "  no revision"]
    note = f"cannot be used: {revision['fault'].replace('_', ' ')}" if revision["fault"] else ""
    lines.append(f"  {paint.head('revision', revision['id'], note)}")
    lines.append(f"    {word_diff(texts.get(revision['parent'], ''), revision['text'], colour=paint.colour)}")
    texts[revision["id"]] = revision["text"]
    if acceptance is not None:
        verdict = "accepted" if acceptance["accepted"] else "not accepted"
        p = "" if acceptance["p"] is None or acceptance["by"] != "judge" else f", p = {acceptance['p']:.3f}"
        reason = f" ({acceptance['reason']})" if acceptance["reason"] else ""
        note = f"by {acceptance['by']}{p}{reason}"
        lines.append(f"  {paint.head(verdict, acceptance['id'], note)}")
    if step["preference"] is not None:
        lines += [f"    {line}" for line in _preference(step["preference"], step["judgements"], paint)]
    return lines


def _preference(preference: Mapping[str, Any], judgements: Sequence[Mapping[str, Any]], paint: _Paint) -> list[str]:
    p = "no opinion" if preference["p_a"] is None else f"p = {preference['p_a']:.3f}"
    gap = "" if preference["position_gap"] is None else f", position gap {preference['position_gap']:.3f}"
    lines = [paint.head("preference", preference["id"], f"that {preference['a']} beats {preference['b']}: {p}{gap}")]
    for one in judgements:
        said = clean(" ".join(one["raw"].split()))[:100]
        told = one["status"] if one["p_a"] is None else f"p = {one['p_a']:.3f}"
        shown = "a first" if one["order"] == "ab" else "b first"
        note = f"{one['principle']}, {one['mode']}, {shown}: {told}  {said}"
        lines.append(f"  {paint.head('judgement', one['id'], note)}".rstrip())
    return lines


def _block(text: str, indent: int = 2) -> str:
    return clean(text).strip().replace("\n", "\n" + " " * indent)


class _Paint:
    """Headings, with or without colour; the one of the record that was asked for is marked."""

    def __init__(self, asked: str, colour: bool) -> None:
        self.asked, self.colour = asked, colour

    def bold(self, text: str) -> str:
        return f"{BOLD}{text}{PLAIN}" if self.colour else text

    def head(self, name: str, id: str, note: str = "") -> str:
        mark = "▸ " if id == self.asked else ""
        return f"{mark}{self.bold(name)} {f'{DIM}{id}{PLAIN}' if self.colour else id}  {clean(note)}".rstrip()
