"""Whether a revision is better than its draft: asked of a judge, decided by programs, or taken as given.

Every usable revision gets an Acceptance; those that are not accepted are kept, marked, with the reason.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from charter.constitution.feedback import Match
from charter.constitution.records import Acceptance, Preference, Revision
from charter.constitution.trajectories import Trajectory
from charter.constitution.watching import SILENT, Watcher
from charter.errors import UsageError
from charter.run.records import Journal
from charter.types import Message

if TYPE_CHECKING:
    from charter.constitution.principles import Constitution, Principle


Prefer = Callable[[Sequence[Match]], Awaitable[Sequence[Preference | None]]]
"""A judge: one Preference per match (a is the revision, b its draft), in order; None where it gave no answer."""


class Shared(Protocol):
    """What a scorer returns. value: weighted share of the checks that hold, None where a program could decide none."""

    @property
    def value(self) -> float | None: ...


Score = Callable[["Principle | Constitution", Sequence[Message], str], Shared]
"""The checks that a program can decide, as `charter.constitution.checks.score_checks`."""


class AcceptSettings(Protocol):
    """Of a recipe's [revise] table, what acceptance needs."""

    @property
    def accept(self) -> Literal["judge", "rules", "always"]: ...
    @property
    def margin(self) -> float: ...


async def accept(
    trajectories: Sequence[Trajectory],
    settings: AcceptSettings,
    journal: Journal,
    constitution: Constitution,
    *,
    prefer: Prefer | None = None,
    score: Score | None = None,
    watcher: Watcher = SILENT,
) -> dict[str, Acceptance]:
    """Compare every usable revision with its draft.

        judge    accepted where p(revision is better) > 1/2 + margin
        rules    accepted where the weighted share of checks rises by more than margin, under the drawn principle and
                 under the whole constitution
        always   accepted

    A judge or a program without an opinion accepts nothing. What a judge could not say because it failed is not
    recorded, so that the next run asks again.

    Args:
        prefer: the judge, for accept = "judge". score: the programs, for accept = "rules".

    Returns:
        revision's id → acceptance, in the order of the trajectories and their steps.

    Raises:
        UsageError: the judge, or the programs, are not there. BudgetError: as the judge.
    """
    pairs = [(one, revision) for one in trajectories for revision in one.usable]
    if settings.accept == "judge":
        if prefer is None:
            raise UsageError('revise.accept = "judge" needs a judge. Give [judge] a model, or accept by "rules"')
        found = await _by_judge(pairs, settings.margin, prefer, watcher)
    elif settings.accept == "rules":
        if score is None:
            raise UsageError('revise.accept = "rules" needs the programs that decide checks')
        found = [_by_rules(one, revision, constitution, settings.margin, score) for one, revision in pairs]
    else:
        found = [_acceptance(revision, "always", 1.0, True) for _, revision in pairs]
    for acceptance in found:
        if acceptance.reason != NO_ANSWER:
            journal.append(acceptance.row())
    journal.sync()
    return {acceptance.revision: acceptance for acceptance in found}


NO_ANSWER = "the judge gave no answer"
"""The reason that is not recorded: it may be another one after the next run."""

NO_OPINION = "the judge has no opinion"


async def _by_judge(
    pairs: Sequence[tuple[Trajectory, Revision]], margin: float, prefer: Prefer, watcher: Watcher
) -> list[Acceptance]:
    comparisons = [
        Match(
            messages=one.prompt.messages, a=revision.text, b=one.draft.text, a_id=revision.id, b_id=one.draft.id,
            principle=revision.principle,
        )
        for one, revision in pairs
    ]  # fmt: skip
    watcher.begin("accept", len(comparisons))
    preferences = await prefer(comparisons) if comparisons else []
    found: list[Acceptance] = []
    for (_, revision), preference in zip(pairs, preferences, strict=True):
        if preference is None:
            found.append(_acceptance(revision, "judge", None, False, NO_ANSWER))
        elif preference.p_a is None:
            found.append(_acceptance(revision, "judge", None, False, NO_OPINION, preference.id))
        else:
            p = preference.p_a if preference.a == revision.id else 1.0 - preference.p_a
            accepted = p > 0.5 + margin
            reason = "" if accepted else f"p = {p:.3f}, more than {0.5 + margin:.3f} is asked"
            found.append(_acceptance(revision, "judge", p, accepted, reason, preference.id))
    undecided = sum(one.p is None for one in found)
    watcher.end({"accepted": sum(one.accepted for one in found), "of": len(found), "no opinion": undecided})
    return found


def _by_rules(
    one: Trajectory, revision: Revision, constitution: Constitution, margin: float, score: Score
) -> Acceptance:
    scopes: Mapping[str, Principle | Constitution] = {
        f"principle {revision.principle!r}": constitution.principle(revision.principle),
        "the whole constitution": constitution,
    }
    short = ""
    for name, scope in scopes.items():
        before, after = (score(scope, one.prompt.messages, text).value for text in (one.draft.text, revision.text))
        if before is None or after is None:
            return _acceptance(revision, "rules", None, False, f"no check of {name} was decided by a program")
        if not after - before > margin and not short:
            short = f"checks of {name}: {before:.3f} → {after:.3f}, a rise of more than {margin:g} is asked"
    return _acceptance(revision, "rules", 0.0 if short else 1.0, not short, short)


def _acceptance(
    revision: Revision, by: str, p: float | None, accepted: bool, reason: str = "", preference: str | None = None
) -> Acceptance:
    return Acceptance(
        revision=revision.id, draft=revision.draft, by=by, p=p, accepted=accepted, reason=reason, preference=preference
    )
