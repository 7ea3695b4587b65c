"""`charter sandbox check | run | serve`: is the isolation proven, one program through it, and a server of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from charter.sandbox.job import Limits, Sandbox, Verdict

app = typer.Typer(no_args_is_help=True, help="Isolation for model-written code: prove it, use it, serve it.")

Kind = Annotated[str, typer.Option("--sandbox", help="auto, A, B, C, monty, remote or unsafe.")]


@app.command("check")
def check(
    tier: Annotated[str, typer.Option("--tier", help="auto tries A, B, C; or one of them.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text.")] = False,
) -> None:
    """Try to break out of the jail, from inside. Exit code 0 only if it is proven."""
    from charter.errors import UsageError
    from charter.sandbox.opening import PROVEN_TIERS, proof

    if tier not in (*PROVEN_TIERS, "auto"):
        raise UsageError(f"--tier {tier!r}: expected auto, {', '.join(PROVEN_TIERS)}")
    reports = [proof(one) for one in (PROVEN_TIERS if tier == "auto" else (tier,))]
    chosen = next((report.tier for report in reports if report.proven), None)
    if as_json:
        typer.echo(json.dumps({"tier": chosen, "tiers": [_as_data(report) for report in reports]}, indent=2))
    else:
        for report in reports:
            _print(report)
        typer.echo(f'\nsandbox = "auto" uses tier {chosen}' if chosen else _nothing(tier))
    raise typer.Exit(0 if chosen else 1)


def _nothing(tier: str) -> str:
    from charter.errors import SandboxUnavailable
    from charter.sandbox.opening import open_sandbox

    try:
        open_sandbox(tier)
    except SandboxUnavailable as error:
        return f"\n{error}"
    return ""


def _as_data(report: Any) -> dict[str, Any]:
    results = [{"layer": r.layer, "probe": r.name, "held": r.held, "note": r.note} for r in report.results]
    why = "" if report.proven else report.why_not()
    return {
        "tier": report.tier, "proven": report.proven, "seconds": round(report.seconds, 3), "why_not": why,
        "probes": results,
    }  # fmt: skip


_MEANING = {
    "A": "bubblewrap, Landlock and seccomp",
    "B": "Landlock and seccomp",
    "C": "bubblewrap and seccomp",
}


def _print(report: Any) -> None:
    state = "proven" if report.proven else "NOT proven"
    typer.echo(f"tier {report.tier} ({_MEANING[report.tier]}): {state} in {report.seconds:.2f} s")
    if report.error:
        typer.echo(f"    {report.error}")
    layers = dict.fromkeys(result.layer for result in report.results)
    for layer in layers:
        own = [result for result in report.results if result.layer == layer]
        held = ", ".join(result.name for result in own if result.held)
        verb = "works" if layer == "control" else "closed"
        if held:
            typer.echo(f"    {layer:<11} {verb}: {held}")
        for result in own:
            if not result.held:
                typer.echo(
                    f"    {layer:<11} {'FAILED' if layer == 'control' else 'OPEN'}: {result.name}: {result.note}"
                )


@app.command("run")
def run(
    file: Annotated[Path, typer.Argument(help="The program.")],
    tests: Annotated[
        Path,
        typer.Option(help="A .py of assert lines (mode calls), or a .jsonl of {stdin, stdout} (mode stdio)."),
    ],
    mode: Annotated[str, typer.Option(help="calls, stdio or checker; left out, the file's ending says it.")] = "",
    entry: Annotated[str, typer.Option(help="Function that check(candidate) in the tests is called with.")] = "",
    sandbox: Kind = "auto",
    wall_s: Annotated[float, typer.Option("--wall-s", help="Longest time of one execution, in seconds.")] = 5.0,
    memory_mib: Annotated[int, typer.Option("--memory-mib", help="Address space of the program, in MiB.")] = 512,
    url: Annotated[str, typer.Option(help="Server, for --sandbox remote.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text.")] = False,
) -> None:
    """Run one program against tests. Exit code 0 if it passed, 1 if not, 2 for bad usage."""
    import asyncio

    from charter.errors import UsageError
    from charter.sandbox import Limits, open_sandbox

    chosen = mode or {".py": "calls", ".jsonl": "stdio"}.get(tests.suffix, "")
    if chosen not in ("calls", "stdio", "checker"):
        raise UsageError(f"--mode {chosen!r} for {tests}: expected calls, stdio or checker")
    program = _text(file)
    suite = _suite(tests, chosen, entry or None)
    try:
        limits = Limits(wall_s=wall_s, memory_bytes=memory_mib * 1024**2)
    except ValueError as error:
        raise UsageError(f"limits: {error}") from None
    opened = open_sandbox(sandbox, url=url) if sandbox == "remote" else open_sandbox(sandbox)
    try:
        verdict = asyncio.run(_run(opened, program, suite, limits))
    finally:
        opened.close()
    _report(verdict, opened.kind, as_json)
    raise typer.Exit(0 if verdict.outcome == "passed" else 1)


async def _run(sandbox: Sandbox, program: str, suite: Any, limits: Limits) -> Verdict:
    from charter.sandbox import CallSuite, CheckerSuite

    if isinstance(suite, CallSuite):
        return await sandbox.run_calls(program, suite, limits)
    if isinstance(suite, CheckerSuite):
        return await sandbox.run_checker(program, suite, limits)
    return await sandbox.run_stdio(program, suite, limits, every=True)


def _text(path: Path) -> str:
    from charter.errors import UsageError

    try:
        # what is not UTF-8 reaches the jail as it stands and fails there, as a program would
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None


def _suite(path: Path, mode: str, entry: str | None) -> Any:
    from charter.errors import DataError
    from charter.sandbox import CheckerSuite, StdioCase
    from charter.sandbox.calls import Unsplittable, split_asserts

    text = _text(path)
    if mode == "checker":
        return CheckerSuite(tests=text, entry=entry)
    if mode == "calls":
        try:
            return split_asserts(text, entry)
        except Unsplittable as error:
            raise DataError(f"{path}: {error}. Use --mode checker") from None
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
    cases = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            cases.append(StdioCase(stdin=str(row["stdin"]), stdout=str(row["stdout"])))
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f'{path}:{number}: expected {{"stdin": …, "stdout": …}} ({error})') from None
    if not cases:
        raise DataError(f"{path}: it holds no cases. Give at least one line")
    return cases


def _report(verdict: Verdict, kind: str, as_json: bool) -> None:
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "outcome": verdict.outcome, "passed": verdict.passed, "total": verdict.total,
                    "seconds": round(verdict.seconds, 6), "note": verdict.note,
                }
            )
        )  # fmt: skip
        return
    typer.echo(f"{verdict.outcome}: {verdict.passed} of {verdict.total} tests, {verdict.seconds:.3f} s, sandbox {kind}")
    if verdict.note:
        typer.echo(f"    {verdict.note}")


@app.command("serve")
def serve_sandbox(
    sandbox: Kind = "auto",
    host: Annotated[str, typer.Option(help="Where to listen; an address that other machines reach needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8711,
    slots: Annotated[int | None, typer.Option(help="Programs at a time; left out, as many as fit.")] = None,
    queue: Annotated[int | None, typer.Option(help="Requests that may wait; left out, as many again.")] = None,
) -> None:
    """Run programs for trainers on other machines (sandbox = "remote" there), until Ctrl-C.

    The token clients must send is read from CHARTER_SANDBOX_TOKEN. Protocol: docs/sandbox_protocol.md.
    """
    from charter.errors import UsageError
    from charter.sandbox import open_sandbox
    from charter.sandbox.opening import PROVEN_TIERS, proof
    from charter.sandbox.serve import serve

    if sandbox == "remote":
        raise UsageError("--sandbox remote: a server serves a sandbox of its own machine")
    opened = open_sandbox(sandbox, slots=slots)
    self_test_s = proof(opened.kind).seconds if opened.kind in PROVEN_TIERS else None
    typer.echo(f"sandbox {opened.kind}, serving on http://{host}:{port} (Ctrl-C ends it)")
    try:
        serve(opened, host=host, port=port, slots=slots, queue=queue, self_test_s=self_test_s)
    finally:
        opened.close()
