"""First replies: one to each red-team prompt, several to each harmless one, all asked for at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from charter.constitution.asking import ask, chat_request
from charter.constitution.parsing import whole_sentences
from charter.constitution.records import Draft
from charter.constitution.redteam import RedteamSettings
from charter.constitution.watching import SILENT, Watcher
from charter.protocols import ChatModel
from charter.run.records import Journal
from charter.types import ChatRequest, Prompt, StopReason

Cut = Literal["drop", "trim", "keep"]
"""What is done with a reply that ended at the token limit."""

Purpose = Literal["redteam", "helpful", "judge"]
"""What a first reply is for: to be revised, to be imitated as it is, or the judge's own, the control."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A first reply and its prompt. stop: why it ended."""

    prompt: Prompt
    draft: Draft
    stop: StopReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Something that was asked and did not come.

    stage: "redteam" or "helpful" (drafts), "critique", "revision" or "control". note: the cause.
    principle: id of the one that was drawn. critique: id of the critique that was to be revised by.
    """

    stage: str
    prompt_id: str
    reason: Literal["failed", "empty"]
    principle: str = ""
    critique: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafts:
    """First replies in the order of their prompts. lost: those that could not be had, or said nothing.

    A reply that failed is in no record, so that the next run asks for it again.
    """

    redteam: tuple[Reply, ...]
    helpful: tuple[Reply, ...] = ()
    control: tuple[Reply, ...] = ()
    lost: tuple[Lost, ...] = ()


async def write_drafts(
    model: ChatModel,
    redteam: Sequence[Prompt],
    helpful: Sequence[Prompt],
    settings: RedteamSettings,
    journal: Journal,
    *,
    seed: int,
    purpose: Literal["redteam", "judge"] = "redteam",
    watcher: Watcher = SILENT,
) -> Drafts:
    """Ask for all first replies in one go and record them.

    Args:
        model: who is asked. helpful: harmless prompts, each answered `settings.helpful_replies` times. seed: of the
            run. purpose: of the replies to the red-team prompts.

    Raises:
        BudgetError: as `ask`; everything answered is recorded.
    """
    wanted: list[tuple[Prompt, Purpose, int, ChatRequest]] = []
    for prompt in redteam:
        wanted.append((prompt, purpose, 0, _request(model, prompt, settings, seed, purpose, 0)))
    for prompt in helpful:
        for index in range(settings.helpful_replies):
            wanted.append((prompt, "helpful", index, _request(model, prompt, settings, seed, "helpful", index)))
    watcher.begin("draft" if purpose == "redteam" else "control", len(wanted))
    replies = await ask(model, [request for *_, request in wanted], journal, watcher.answered)
    found: dict[str, list[Reply]] = {"redteam": [], "helpful": [], "judge": []}
    lost: list[Lost] = []
    for prompt, of, index, request in wanted:
        reply = replies[request.id]
        if reply.stop == "failed" or not reply.text.strip():
            reason = "failed" if reply.stop == "failed" else "empty"
            lost.append(
                Lost(stage="control" if of == "judge" else of, prompt_id=prompt.id, reason=reason, note=reply.note)
            )
            continue
        draft = Draft(
            prompt_id=prompt.id, messages=prompt.messages, text=reply.text.strip(), model=model.name,
            purpose=of, index=index,
        )  # fmt: skip
        journal.append(draft.row())
        found[of].append(Reply(prompt=prompt, draft=draft, stop=reply.stop))
    journal.sync()
    watcher.end({"drafts": sum(map(len, found.values())), "lost": len(lost)})
    return Drafts(
        redteam=tuple(found["redteam"]),
        helpful=tuple(found["helpful"]),
        control=tuple(found["judge"]),
        lost=tuple(lost),
    )


def uncut(text: str, stop: StopReason, cut: Cut) -> str | None:
    """The text to imitate of a reply: cut back to its last whole sentence where it ended at the token limit.

    cut: "drop" has None in its place, "keep" the text as it is, "trim" None where no sentence ends.
    """
    if stop != "length" or cut == "keep":
        return text
    return (whole_sentences(text) or None) if cut == "trim" else None


def _request(
    model: ChatModel, prompt: Prompt, settings: RedteamSettings, seed: int, purpose: str, index: int
) -> ChatRequest:
    return chat_request(
        model.name, prompt.messages, max_new_tokens=settings.max_new_tokens, temperature=settings.temperature,
        salt=f"{seed}/{purpose}/{index}",
    )  # fmt: skip
