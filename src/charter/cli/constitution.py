"""`charter constitution show | lint | diff | import | schema`: principles, read, checked and compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charter.cli import constitution_ablate

if TYPE_CHECKING:
    from charter.constitution.principles import Constitution, Principle

app = typer.Typer(no_args_is_help=True, help="Constitutions: show, lint, compare, import; what each principle decides.")

Name = Annotated[
    str, typer.Argument(help="A shipped constitution (helpful-harmless, concise, honest) or a .toml path.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print data instead of text.")]


@app.command("show")
def show(
    name: Annotated[str | None, typer.Argument(help="A shipped constitution or a .toml path; without, a list.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print a constitution: its principles, reasons, what a model is asked, and the checks."""
    from charter.constitution.principles import Constitution, shipped_constitutions

    if name is None:
        rows = [_summary(Constitution.load(each)) for each in shipped_constitutions()]
        if as_json:
            typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
            return
        for row in rows:
            tags = ", ".join(row["tags"])
            typer.echo(f"{row['name']}  {row['principles']} principles, tags {tags}, hash {row['hash'][:12]}")
        return
    constitution = Constitution.load(name)
    if as_json:
        typer.echo(json.dumps(_data(constitution), ensure_ascii=False, indent=2))
        return
    typer.echo(_clean(f"{constitution.name}, version {constitution.version}, hash {constitution.hash[:12]}\n"))
    if constitution.prose.strip():
        typer.echo(_clean(constitution.prose.strip()) + "\n")
    for number, principle in enumerate(constitution.principles, start=1):
        typer.echo(_clean(_text(number, principle)))


@app.command("lint")
def lint(name: Name, as_json: AsJson = False) -> None:
    """Name everything doubtful in a constitution; exit code 1 where there is anything."""
    from dataclasses import asdict

    from charter.constitution.principles import Constitution

    constitution = Constitution.load(name)
    findings = constitution.lint()
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False, indent=2))
    else:
        for finding in findings:
            typer.echo(_clean(f"{finding}  [{finding.kind}]"))
        count = "nothing found" if not findings else "1 finding" if len(findings) == 1 else f"{len(findings)} findings"
        typer.echo(_clean(f"{constitution.name}, {count}"))
    raise typer.Exit(1 if findings else 0)


@app.command("diff")
def diff(
    old: Annotated[str, typer.Argument(help="A shipped constitution or a .toml path.")],
    new: Annotated[str, typer.Argument(help="Another.")],
    as_json: AsJson = False,
) -> None:
    """Print what the second constitution adds, removes and changes."""
    from dataclasses import asdict

    from charter.constitution.principles import Constitution

    before, after = Constitution.load(old), Constitution.load(new)
    found = before.diff(after)
    if as_json:
        data = asdict(found) | {"hash_before": before.hash, "hash_after": after.hash}
        typer.echo(json.dumps(data, ensure_ascii=False, indent=2))
        return
    for sign, principles in (("-", found.removed), ("+", found.added)):
        for principle in principles:
            typer.echo(_clean(f"{sign} {principle.id}: {principle.text}"))
    for change in found.changed:
        typer.echo(_clean(f"~ {f'{change.id} ' if change.id else ''}{change.field}: {change.text}"))
    if found.moved:
        typer.echo("the principles come in another order")
    if not found:
        typer.echo("no difference")
    told = "equal hashes: what is asked is the same" if before.hash == after.hash else "the hashes differ"
    typer.echo(f"{told} ({before.hash[:12]}, {after.hash[:12]})")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A .json, .jsonl or Markdown file of another project.")],
    out: Annotated[Path, typer.Option("--out", help="The .toml file to write; an existing one is not replaced.")],
    name: Annotated[str | None, typer.Option("--name", help="Its name; made of the file's when left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Turn another project's principles into a constitution, and say what could not be mapped."""
    from charter.constitution.principles import Constitution
    from charter.errors import UsageError
    from charter.run.atomic import write_text

    if out.exists():
        raise UsageError(f"{out}: it exists. Name a new file, or remove this one")
    imported = Constitution.from_file(file, name)
    constitution = imported.constitution
    write_text(out, constitution.to_toml())
    findings = Constitution.load(out).lint()
    if as_json:
        data = _summary(constitution) | {"path": str(out), "unmapped": imported.unmapped, "findings": len(findings)}
        typer.echo(json.dumps(data, ensure_ascii=False, indent=2))
        return
    count = len(constitution.principles)
    typer.echo(_clean(f"{out}: {count} principle{'' if count == 1 else 's'}"))
    for lost in imported.unmapped:
        typer.echo(_clean(f"  not mapped: {lost}"))
    if findings:
        typer.echo(f"  {len(findings)} things are doubtful: charter constitution lint {out}")


@app.command("schema")
def schema() -> None:
    """Print the JSON schema of a constitution's file."""
    from charter.constitution.schema import constitution_schema

    typer.echo(json.dumps(constitution_schema(), indent=2))


app.command("ablate")(constitution_ablate.command)


def _summary(constitution: Constitution) -> dict[str, Any]:
    return {
        "name": constitution.name, "version": constitution.version, "hash": constitution.hash,
        "principles": len(constitution.principles), "tags": list(constitution.tags),
    }  # fmt: skip


def _data(constitution: Constitution) -> dict[str, Any]:
    from dataclasses import asdict

    return _summary(constitution) | {
        "prose": constitution.prose,
        "principles": [asdict(principle) for principle in constitution.principles],
    }


def _text(number: int, principle: Principle) -> str:
    lines = [f"{number}. {principle.title or principle.id}  [{principle.id}]"]
    lines.append(f"   {principle.text}")
    if principle.reason:
        lines.append(f"   Why: {principle.reason}")
    tags = f"   tags: {', '.join(principle.tags)}" if principle.tags else ""
    lines.append(f"   weight {principle.weight:g}{tags}")
    for kind in ("critique", "revision", "preference"):
        made = "" if getattr(principle, kind).strip() else " (made of the rule)"
        lines.append(f"   {kind}{made}: {principle.phrasing(kind)}")
    for check in principle.checks:
        wanted = "yes" if check.wanted else "no"
        by = f", by {check.program}" if check.program else ""
        lines.append(f"   - {check.question} ({wanted}, weight {check.weight:g}{by})")
    return "\n".join(lines) + "\n"


def _clean(text: str) -> str:
    from charter.cli.display import clean

    return clean(text)
