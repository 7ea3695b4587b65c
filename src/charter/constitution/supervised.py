"""The supervised stage: prompts → drafts → (critique → revision) × steps → acceptance → rows to imitate.

done = await supervise(sets, author=…, constitution=…, journal=…, redteam=recipe.redteam, settings=recipe.revise, …)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from charter.constitution.acceptance import AcceptSettings, Prefer, Score, accept
from charter.constitution.drafting import Drafts, write_drafts
from charter.constitution.exporting import SftRows, chosen_steps, select_revisions, sft_rows
from charter.constitution.funnel import (
    Stage,
    acceptance_stage,
    critique_stage,
    funnel,
    principle_rows,
    revision_stage,
)
from charter.constitution.prompts import FewShot
from charter.constitution.records import Acceptance
from charter.constitution.redteam import PromptSets, RedteamSettings
from charter.constitution.revise import Draw, Revised, ReviseSettings, revise
from charter.constitution.watching import SILENT, Watcher
from charter.errors import UsageError
from charter.protocols import ChatModel
from charter.run.records import Journal

if TYPE_CHECKING:
    from charter.constitution.principles import Constitution


class SupervisedSettings(ReviseSettings, AcceptSettings, Protocol):
    """A recipe's whole [revise] table."""

    @property
    def sft_on(self) -> str: ...
    @property
    def control(self) -> Literal["none", "draft", "judge"]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervised:
    """What the stage made. acceptances: by revision's id. funnel: see `charter.constitution.funnel`.

    lost: requests that failed, which the next run asks again.
    """

    sets: PromptSets
    drafts: Drafts
    revised: Revised
    acceptances: Mapping[str, Acceptance]
    sft: SftRows
    funnel: Mapping[str, Any]

    @property
    def lost(self) -> int:
        """Requests that failed; with none, running the stage again changes nothing."""
        return sum(one.reason == "failed" for one in (*self.drafts.lost, *self.revised.lost))


async def supervise(
    sets: PromptSets,
    *,
    author: ChatModel,
    constitution: Constitution,
    journal: Journal,
    redteam: RedteamSettings,
    settings: SupervisedSettings,
    seed: int,
    draw: Draw,
    shots: Sequence[FewShot] = (),
    prefer: Prefer | None = None,
    score: Score | None = None,
    judge: ChatModel | None = None,
    watcher: Watcher = SILENT,
) -> Supervised:
    """Run the stage; what the journal has is not asked again, so that running it twice costs nothing.

    With a control nothing is critiqued: the drafts, or the judge's own replies, stand in the place of revisions.

    Args:
        draw: (prompt id, step) → principle. shots: worked examples. prefer: the judge of accept = "judge". score: the
            programs of accept = "rules". judge: who replies under control = "judge".

    Raises:
        UsageError: a part that the settings need is not there, or sft_on cannot be read. BudgetError: as `ask`.
    """
    chosen_steps(settings.sft_on)  # refused before anything is asked
    if settings.control == "judge":
        if judge is None:
            raise UsageError('revise.control = "judge" needs a judge. Give [judge] a model')
        own = await write_drafts(judge, sets.prompts, (), redteam, journal, seed=seed, purpose="judge", watcher=watcher)
        others = await write_drafts(author, (), sets.helpful.train, redteam, journal, seed=seed, watcher=watcher)
        drafts = Drafts(redteam=(), helpful=others.helpful, control=own.control, lost=(*own.lost, *others.lost))
    else:
        drafts = await write_drafts(
            author, sets.prompts, sets.helpful.train, redteam, journal, seed=seed, watcher=watcher
        )
    if settings.control == "none":
        revised = await revise(drafts, author, settings, journal, draw=draw, seed=seed, shots=shots, watcher=watcher)
    else:
        revised = Revised(trajectories=())
    acceptances = await accept(
        revised.trajectories, settings, journal, constitution, prefer=prefer, score=score, watcher=watcher
    ) if revised.trajectories else {}  # fmt: skip
    chosen = [(one, select_revisions(one, acceptances, settings.sft_on)) for one in revised.trajectories]
    control = drafts.redteam if settings.control == "draft" else drafts.control
    sft = sft_rows(chosen, control, drafts.helpful, settings.cut)
    return Supervised(
        sets=sets,
        drafts=drafts,
        revised=revised,
        acceptances=acceptances,
        sft=sft,
        funnel=_funnel(sets, drafts, revised, acceptances, sft, constitution, redteam, settings),
    )


def _funnel(
    sets: PromptSets,
    drafts: Drafts,
    revised: Revised,
    acceptances: Mapping[str, Acceptance],
    sft: SftRows,
    constitution: Constitution,
    redteam: RedteamSettings,
    settings: SupervisedSettings,
) -> dict[str, Any]:
    written = sets.written
    stages = [
        Stage(
            name="prompts",
            came_in=sets.read + (len(written.prompts) + sum(written.dropped.values()) if written else 0),
            dropped={
                "repeated": sets.repeated, "held out": len(sets.redteam.held_out),
                "near a held-out one": sets.redteam.near_held_out, "not asked for": sets.redteam.unused,
                **(written.dropped if written else {}),
            },
        ),
        Stage(
            name="drafts",
            came_in=len(sets.prompts),
            dropped={
                reason: sum(one.stage in ("redteam", "control") and one.reason == reason for one in drafts.lost)
                for reason in ("failed", "empty")
            },
        ),
    ]  # fmt: skip
    if settings.control == "none":
        if settings.critique:
            stages.append(critique_stage(revised.trajectories, revised.lost))
        stages += [revision_stage(revised.trajectories, revised.lost), acceptance_stage(acceptances)]
        candidates = sum(one.accepted for one in acceptances.values())
        made = _count(sft, "revision")
        left_out = sft.dropped.get("revision", {})
        not_chosen = candidates - made - sum(left_out.values())
        stages.append(
            Stage(name="examples", came_in=candidates, dropped={f"not {settings.sft_on}": not_chosen, **left_out})
        )
    else:
        control = drafts.redteam if settings.control == "draft" else drafts.control
        stages.append(Stage(name="examples", came_in=len(control), dropped=sft.dropped.get(settings.control, {})))
    stages.append(
        Stage(
            name="helpful",
            came_in=len(sets.helpful.train) * redteam.helpful_replies,
            dropped={
                **{
                    reason: sum(one.stage == "helpful" and one.reason == reason for one in drafts.lost)
                    for reason in ("failed", "empty")
                },
                **sft.dropped.get("helpful", {}),
            },
        )
    )
    principles = principle_rows(revised.trajectories, acceptances, constitution.ids, revised.lost)
    return funnel(stages, principles, stripped=revised.stripped, trimmed=revised.trimmed)


def _count(sft: SftRows, source: str) -> int:
    return sum(row.source == source for row in sft.rows)
