"""Every error a user can meet, each with a sentence that says what to do.

    CharterError                  something Charter can explain; the command line prints it without a traceback
    ├── UsageError                the request is wrong (exit code 2)
    │   ├── RecipeError           a recipe's keys or numbers; carries every problem at once
    │   └── DataError             a row, a file or a data set; names file and line
    └── RunError                  the request was right and the work failed (exit code 1)
        ├── ModelError            a model folder or asset that does not load or does not fit
        ├── AssetError            a download that failed or did not match its checksum
        ├── RewardError           rewards that failed for too large a share of a step
        ├── SandboxUnavailable    no isolation that its own self-test proves; carries the probes that failed
        ├── StoreError            a run folder that cannot be written, read or resumed
        ├── BudgetError           a chat model's budget is spent; everything answered is kept
        └── DivergedError         the loss or gradient stopped being finite

`MissingExtra` is a UsageError for an optional package that is not installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class CharterError(Exception):
    """Base of every error that Charter raises on purpose."""

    exit_code = 1


class UsageError(CharterError):
    """The request is wrong: nothing was started."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with a recipe.

    where: file and dotted key, with the line when it is known. found: what stands there. fix: what to do.
    """

    where: str
    found: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.found}. {self.fix}"


class RecipeError(UsageError):
    """A recipe that cannot run; `problems` holds all of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(f"{count} in the recipe:\n" + "\n".join(f"  {p}" for p in self.problems))


class DataError(UsageError):
    """A data file or row that cannot be used."""


class MissingExtra(UsageError):  # noqa: N818 - reads as the condition it names
    """An optional package is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package!r}: pip install 'charter[{extra}]'")
        self.extra = extra


class RunError(CharterError):
    """The work failed."""


class ModelError(RunError):
    """A model that does not load, or that Charter cannot run exactly."""


class AssetError(RunError):
    """An offline asset that could not be fetched or verified."""


class RewardError(RunError):
    """Rewards failed for too large a share of a step; the message holds examples."""


class SandboxUnavailable(RunError):  # noqa: N818 - reads as the condition it names
    """No isolation could be proven; the message names the probes that failed and what to install."""


class StoreError(RunError):
    """A run folder that cannot be written, read or resumed."""


class BudgetError(RunError):
    """The budget of a chat model is spent; everything answered so far is recorded."""


class DivergedError(RunError):
    """Training left the finite numbers; everything up to the last good step is saved."""
