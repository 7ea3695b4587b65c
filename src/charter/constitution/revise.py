"""Critique and revision, all replies of a step at a time.

    steps ×   draw a principle per reply → all critiques in one go → all revisions in one go

What comes out is a function of prompts, drafts, constitution, settings, seed and the model's replies; replies come
through the journal, so that a run that was killed goes on without asking anything twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from charter.constitution.asking import ask, chat_request
from charter.constitution.drafting import Cut, Drafts, Lost, Reply, uncut
from charter.constitution.meta_text import read_reply
from charter.constitution.parsing import critique_verdict
from charter.constitution.prompts import (
    ISSUE,
    FewShot,
    choose_shots,
    critique_messages,
    direct_messages,
    revision_messages,
)
from charter.constitution.records import Critique, Revision
from charter.constitution.similarity import normalised
from charter.constitution.trajectories import Step, Trajectory
from charter.constitution.watching import SILENT, Watcher
from charter.errors import UsageError
from charter.protocols import ChatModel
from charter.run.records import Journal
from charter.types import ChatReply, ChatRequest, Message, StopReason

if TYPE_CHECKING:
    from charter.constitution.principles import Principle

Draw = Callable[[str, int], "Principle"]
"""(prompt id, step) → the principle; a pure function."""


class ReviseSettings(Protocol):
    """A recipe's [revise] table, or anything with these attributes; docs/recipe.md says what each means."""

    @property
    def steps(self) -> int: ...
    @property
    def critique(self) -> bool: ...
    @property
    def assume_issue(self) -> bool: ...
    @property
    def few_shot(self) -> int: ...
    @property
    def temperature(self) -> float: ...
    @property
    def max_new_tokens(self) -> int: ...
    @property
    def cut(self) -> Cut: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Revised:
    """Every trajectory, in the order of the prompts.

    lost: requests that failed; their chains end there, and the next run asks again. faults: principle's id → fault →
    how many. stripped, trimmed: revisions of which a label in front, or a torn last sentence, was taken off.
    """

    trajectories: tuple[Trajectory, ...]
    lost: tuple[Lost, ...] = ()
    faults: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    stripped: int = 0
    trimmed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a request for a revision. fault: "" where it can be used; text: as it would be used."""

    text: str
    fault: str = ""
    stripped: bool = False
    trimmed: bool = False


@dataclass(slots=True)
class _Chain:
    """A draft on its way.

    text, id: of the newest usable reply. seen: all of them. broken: a request failed; it goes on in the next run.
    """

    reply: Reply
    text: str
    id: str
    stop: StopReason
    seen: list[str]
    steps: list[Step] = field(default_factory=list[Step])
    broken: bool = False

    @property
    def conversation(self) -> tuple[Message, ...]:
        return self.reply.prompt.messages


@dataclass(slots=True)
class _Tally:
    lost: list[Lost] = field(default_factory=list[Lost])
    faults: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    stripped: int = 0
    trimmed: int = 0


async def revise(
    drafts: Drafts,
    author: ChatModel,
    settings: ReviseSettings,
    journal: Journal,
    *,
    draw: Draw,
    seed: int,
    shots: Sequence[FewShot] = (),
    watcher: Watcher = SILENT,
) -> Revised:
    """Critique and revise every red-team draft, `settings.steps` times.

    Where a critique finds nothing wrong, or says nothing at all, the step makes no revision and the reply is carried
    on. A critique that cannot be read is revised by all the same: it is a critique, and acceptance has the last word.
    A revision with a fault is recorded and not carried on: the next step looks at the reply before it.

    Args:
        draw: (prompt id, step) → the principle. seed: of the run; it tells requests of two runs apart. shots: worked
            examples, of which `settings.few_shot` are shown.

    Raises:
        BudgetError: as `ask`; everything answered is recorded.
    """
    chains = [
        _Chain(reply=one, text=one.draft.text, id=one.draft.id, stop=one.stop, seen=[one.draft.text])
        for one in drafts.redteam
    ]
    tally = _Tally()
    for step in range(1, settings.steps + 1):
        going = [(chain, draw(chain.reply.prompt.id, step)) for chain in chains if not chain.broken]
        if not going:
            break
        asked: list[tuple[_Chain, Principle, Critique | None]] = [
            (chain, principle, None) for chain, principle in going
        ]
        if settings.critique:
            asked = await _critiques(going, step, author, settings, journal, seed, shots, tally, watcher)
        await _revisions(asked, step, author, settings, journal, seed, shots, tally, watcher)
    return Revised(
        trajectories=tuple(
            Trajectory(prompt=chain.reply.prompt, draft=chain.reply.draft, steps=tuple(chain.steps)) for chain in chains
        ),
        lost=tuple(tally.lost),
        faults=tally.faults,
        stripped=tally.stripped,
        trimmed=tally.trimmed,
    )


async def _critiques(
    going: Sequence[tuple[_Chain, Principle]],
    step: int,
    author: ChatModel,
    settings: ReviseSettings,
    journal: Journal,
    seed: int,
    shots: Sequence[FewShot],
    tally: _Tally,
    watcher: Watcher,
) -> list[tuple[_Chain, Principle, Critique | None]]:
    """Ask for all critiques of a step; returns the replies to be revised, with what is held against them."""
    begin = ISSUE if settings.assume_issue else ""
    if begin and "begin" not in author.capabilities:
        raise UsageError(
            f"revise.assume_issue = true begins every critique with {ISSUE!r}, and {author.name} cannot be made to "
            "begin so. Set it to false: the model then says itself whether there is an issue"
        )
    requests = [
        _request(
            author,
            critique_messages(chain.conversation, chain.text, principle, _shots(shots, principle, settings)),
            settings,
            f"{seed}/critique/{step}",
            begin,
        )
        for chain, principle in going
    ]
    watcher.begin(f"critique {step}", len(requests))
    replies = await ask(author, requests, journal, watcher.answered)
    found: list[tuple[_Chain, Principle, Critique | None]] = []
    verdicts = {"issue": 0, "none": 0, "unparsed": 0}
    for (chain, principle), request in zip(going, requests, strict=True):
        reply = replies[request.id]
        if reply.stop == "failed":
            _lose(chain, "critique", principle, None, reply, tally)
            continue
        text = f"{begin} {reply.text.strip()}".strip()
        verdict = critique_verdict(text)
        critique = Critique(target=chain.id, principle=principle.id, text=text, verdict=verdict, model=author.name)
        journal.append(critique.row())
        verdicts[verdict] += 1
        if verdict == "none" or not critique.text:
            chain.steps.append(Step(critique, None))
        else:
            found.append((chain, principle, critique))
    journal.sync()
    watcher.end(verdicts)
    return found


async def _revisions(
    asked: Sequence[tuple[_Chain, Principle, Critique | None]],
    step: int,
    author: ChatModel,
    settings: ReviseSettings,
    journal: Journal,
    seed: int,
    shots: Sequence[FewShot],
    tally: _Tally,
    watcher: Watcher,
) -> None:
    """Ask for all revisions of a step and carry on with those that can be used."""
    requests: list[ChatRequest] = []
    for chain, principle, critique in asked:
        chosen = _shots(shots, principle, settings)
        if critique is None:
            messages = direct_messages(chain.conversation, chain.text, principle, chosen)
        else:
            messages = revision_messages(chain.conversation, chain.text, principle, critique.text, chosen)
        requests.append(_request(author, messages, settings, f"{seed}/revise/{step}"))
    watcher.begin(f"revise {step}", len(requests))
    replies = await ask(author, requests, journal, watcher.answered)
    counts = {"usable": 0}
    for (chain, principle, critique), request in zip(asked, requests, strict=True):
        reply = replies[request.id]
        if reply.stop == "failed":
            if critique is not None:
                chain.steps.append(Step(critique, None))
            _lose(chain, "revision", principle, critique, reply, tally)
            continue
        outcome = examine(reply, chain.conversation, chain.seen, principle, critique, settings.cut)
        revision = Revision(
            draft=chain.reply.draft.id, parent=chain.id, critique=critique.id if critique else None,
            principle=principle.id, step=step, text=outcome.text, model=author.name, fault=outcome.fault,
        )  # fmt: skip
        journal.append(revision.row())
        chain.steps.append(Step(critique, revision))
        tally.stripped += outcome.stripped
        tally.trimmed += outcome.trimmed
        counts[outcome.fault or "usable"] = counts.get(outcome.fault or "usable", 0) + 1
        if outcome.fault:
            of_principle = tally.faults.setdefault(principle.id, {})
            of_principle[outcome.fault] = of_principle.get(outcome.fault, 0) + 1
        else:
            chain.text, chain.id = outcome.text, revision.id
            chain.seen.append(outcome.text)
    journal.sync()
    watcher.end(counts)


def examine(
    reply: ChatReply,
    conversation: Sequence[Message],
    seen: Sequence[str],
    principle: Principle,
    critique: Critique | None,
    cut: Cut,
) -> Outcome:
    """What a reply to a request for a revision is worth.

    seen: the draft, and the usable revisions since; a text that equals one of them but for case and punctuation is
    "unchanged". A text that has a fault is kept as it came.
    """
    raw = reply.text.strip()
    if reply.stop == "failed":
        return Outcome(text="", fault="failed")
    if not raw:
        return Outcome(text="", fault="empty")
    read = read_reply(
        raw,
        conversation=[message["content"] for message in conversation],
        previous=seen,
        requests=(principle.text, principle.phrasing("critique"), principle.phrasing("revision")),
        critique=critique.text if critique else "",
    )
    if read.meta:
        return Outcome(text=raw, fault="meta_text")
    text = uncut(read.text, reply.stop, cut)
    if text is None:
        return Outcome(text=raw, fault="truncated")
    if normalised(text) in {normalised(known) for known in seen}:
        return Outcome(text=raw, fault="unchanged")
    return Outcome(text=text, stripped=read.stripped, trimmed=text != read.text)


def _lose(
    chain: _Chain, stage: str, principle: Principle, critique: Critique | None, reply: ChatReply, tally: _Tally
) -> None:
    chain.broken = True
    tally.lost.append(
        Lost(
            stage=stage, prompt_id=chain.reply.prompt.id, reason="failed", principle=principle.id,
            critique=critique.id if critique else "", note=reply.note,
        )
    )  # fmt: skip


def _shots(shots: Sequence[FewShot], principle: Principle, settings: ReviseSettings) -> tuple[FewShot, ...]:
    """The worked examples for a principle; where an issue is taken as given, only those that find one."""
    fitting = [shot for shot in shots if shot.verdict == "issue"] if settings.assume_issue else shots
    return choose_shots(fitting, principle.tags, settings.few_shot)


def _request(
    author: ChatModel, messages: Sequence[Message], settings: ReviseSettings, salt: str, begin: str = ""
) -> ChatRequest:
    return chat_request(
        author.name, messages, max_new_tokens=settings.max_new_tokens, temperature=settings.temperature, salt=salt,
        begin=begin,
    )  # fmt: skip
