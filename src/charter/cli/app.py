"""The command line: `charter VERB`.

Only typer is imported here; each verb imports what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from charter import __version__
from charter.cli import (
    arena,
    assets,
    cai,
    calibrate,
    compare,
    constitution,
    doctor,
    evaluate,
    explain,
    label,
    redteam,
    rescore,
    revise,
    reward,
    sandbox,
    show,
    trace,
    train,
)

app = typer.Typer(
    name="charter",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Align language models by rules a program can check and principles a reader can judge.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"charter {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of every verb."""


app.command("train")(train.command)
app.command("explain")(explain.command)
app.command("eval")(evaluate.command)
app.command("compare")(compare.command)
app.command("cai")(cai.command)
app.command("redteam")(redteam.command)
app.command("revise")(revise.command)
app.command("label")(label.command)
app.command("calibrate")(calibrate.command)
app.command("arena")(arena.command)
app.command("trace")(trace.command)
app.add_typer(constitution.app, name="constitution")
app.command("show")(show.command)
reward.app.command("rescore")(rescore.command)
app.add_typer(reward.app, name="reward")
app.add_typer(sandbox.app, name="sandbox")
app.command("doctor")(doctor.command)
app.add_typer(assets.app, name="assets")


def main() -> None:
    """Entry point. Errors that Charter can explain end in their sentence and exit code, without a traceback."""
    from charter.errors import CharterError

    try:
        app()
    except CharterError as error:
        sys.stdout.flush()
        print(f"charter: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("charter: stopped", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
