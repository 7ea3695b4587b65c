"""How a verb of the constitutional loop ends before its end: what is kept, and the command that goes on."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def command_line(verb: str, recipe: str, overrides: Sequence[str] | None, run_dir: str | None, *more: str) -> str:
    """The command as it was typed, ready to be typed again."""
    return shlex.join(
        ["charter", verb, recipe, *(overrides or ()), *(["--run-dir", run_dir] if run_dir else []), *more]
    )


@contextmanager
def going_on(again: str, kept: str) -> Iterator[None]:
    """Add to a spent budget, a stop that was asked for, or Ctrl-C what is kept and how to go on.

    Raises: BudgetError and StageStopped as they came, with that; RunError in the place of KeyboardInterrupt.
    """
    from charter.errors import BudgetError, RunError
    from charter.train.pipeline import StageStopped

    try:
        yield
    except (BudgetError, StageStopped) as error:
        raise type(error)(f"{error}\n{kept} Go on with:\n  {again}") from None
    except KeyboardInterrupt:
        raise RunError(f"stopped. {kept} Go on with:\n  {again}") from None
