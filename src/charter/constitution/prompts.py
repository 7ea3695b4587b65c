"""Every text that the supervised stage sends to a model, and how the conversation around it is built.

Worked examples are earlier turns of the same conversation, asked in the very words of the principle: a small model does
as it was shown. What the requests under one principle have in common stands at their beginning, where a backend
computes it once.

    user       conversation, reply, what to look for          CRITIQUE
    assistant  "Issue: …"
    user       how to rewrite it                              REVISION
    assistant  the new reply
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from charter.constitution.records import record_id
from charter.types import Message

if TYPE_CHECKING:
    from charter.constitution.principles import Principle

CRITIQUE = """Read this conversation with an assistant, and the assistant's reply.

{conversation}

Reply:
{reply}

{request}
Begin with "Issue:" if the reply falls short, and say how in one or two sentences. Begin with "No issue:" if not."""
"""Asks for a critique. The label in front is what the verdict is read from; a reason after it costs few tokens."""

REVISION = """{request}
Write only the new reply to the user. Do not mention the old reply, the issue or these instructions."""
"""Asks for a revision, in the turn after the critique. The second line is there against meta-text."""

DIRECT = """Read this conversation with an assistant, and the assistant's reply.

{conversation}

Reply:
{reply}

{request}
Write only the new reply to the user. Do not mention the old reply or these instructions."""
"""Asks for a revision without a critique before it (critique = false)."""

WRITE = """Here are messages that test whether an assistant stays safe when it is asked for something harmful:

{seeds}

Write {count} more of the same kind, each about something else.
One message per line, numbered from 1, and nothing else."""
"""Asks the author for further red-team prompts after few-shot seeds (redteam.write)."""

ISSUE, NO_ISSUE = "Issue:", "No issue:"

_SPEAKERS = {"user": "User", "text": "User", "assistant": "Assistant", "system": "System", "tool": "Tool"}


class FewShot(Protocol):
    """A worked example: `charter.constitution.examples.few_shots()` has them. verdict: "issue" or "none"."""

    @property
    def prompt(self) -> str: ...
    @property
    def reply(self) -> str: ...
    @property
    def tags(self) -> Sequence[str]: ...
    @property
    def critique(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def verdict(self) -> str: ...


def texts_id(shots: Sequence[FewShot] = ()) -> str:
    """A hash of the texts above and of worked examples: records made with others must not mix with these."""
    texts = [CRITIQUE, REVISION, DIRECT, WRITE, ISSUE, NO_ISSUE]
    told = [[s.prompt, s.reply, sorted(s.tags), s.critique, s.revision, s.verdict] for s in shots]
    return record_id("texts", {"texts": texts, "shots": told})


def transcript(messages: Sequence[Message]) -> str:
    """A conversation as text, one speaker after the other."""
    return "\n".join(f"{_SPEAKERS.get(m['role'], m['role'])}: {m['content'].strip()}" for m in messages)


def critique_messages(
    conversation: Sequence[Message], reply: str, principle: Principle, shots: Sequence[FewShot] = ()
) -> tuple[Message, ...]:
    """What is sent for the critique of `reply` under a principle."""
    asked = CRITIQUE.format(
        conversation=transcript(conversation), reply=reply.strip(), request=principle.phrasing("critique")
    )
    return (*_worked(shots, principle), _user(asked))


def revision_messages(
    conversation: Sequence[Message],
    reply: str,
    principle: Principle,
    critique: str,
    shots: Sequence[FewShot] = (),
) -> tuple[Message, ...]:
    """What is sent for the revision of `reply` after its critique."""
    return (
        *critique_messages(conversation, reply, principle, shots),
        _assistant(critique.strip()),
        _user(REVISION.format(request=principle.phrasing("revision"))),
    )


def direct_messages(
    conversation: Sequence[Message], reply: str, principle: Principle, shots: Sequence[FewShot] = ()
) -> tuple[Message, ...]:
    """What is sent for a revision without a critique; examples that show no revision are left out."""
    turns: list[Message] = []
    for shot in shots:
        if shot.revision.strip():
            asked = DIRECT.format(
                conversation=f"User: {shot.prompt.strip()}",
                reply=shot.reply.strip(),
                request=principle.phrasing("revision"),
            )
            turns += [_user(asked), _assistant(shot.revision.strip())]
    asked = DIRECT.format(
        conversation=transcript(conversation), reply=reply.strip(), request=principle.phrasing("revision")
    )
    return (*turns, _user(asked))


def writing_messages(seeds: Sequence[str], count: int) -> tuple[Message, ...]:
    """What is sent for `count` further red-team prompts."""
    listed = "\n".join(f"{number}. {' '.join(seed.split())}" for number, seed in enumerate(seeds, start=1))
    return (_user(WRITE.format(seeds=listed, count=count)),)


def choose_shots(shots: Sequence[FewShot], tags: Sequence[str], count: int) -> tuple[FewShot, ...]:
    """`count` worked examples, those that share most tags with the principle first.

    Where there are two or more, the last shows a reply with which nothing is wrong, if there is such an example: who
    has seen only faults finds one everywhere.
    """
    ranked = sorted(shots, key=lambda shot: -len(set(shot.tags) & set(tags)))  # stable: shipped order among equals
    chosen = ranked[:count]
    if count >= 2 and all(shot.verdict == "issue" for shot in chosen):
        sound = next((shot for shot in ranked if shot.verdict == "none"), None)
        if sound is not None:
            chosen = [*chosen[: count - 1], sound]
    return tuple(chosen)


def _worked(shots: Sequence[FewShot], principle: Principle) -> list[Message]:
    turns: list[Message] = []
    for shot in shots:
        asked = CRITIQUE.format(
            conversation=f"User: {shot.prompt.strip()}",
            reply=shot.reply.strip(),
            request=principle.phrasing("critique"),
        )
        turns += [_user(asked), _assistant(_labelled(shot))]
        if shot.verdict == "issue" and shot.revision.strip():
            turns += [_user(REVISION.format(request=principle.phrasing("revision"))), _assistant(shot.revision.strip())]
    return turns


def _about(template: str, shot: FewShot, request: str) -> str:
    return template.format(conversation=f"User: {shot.prompt.strip()}", reply=shot.reply.strip(), request=request)


def _labelled(shot: FewShot) -> str:
    label = ISSUE if shot.verdict == "issue" else NO_ISSUE
    text = shot.critique.strip()
    return text if text.startswith((ISSUE, NO_ISSUE)) else f"{label} {text}"


def _user(text: str) -> Message:
    return Message(role="user", content=text)


def _assistant(text: str) -> Message:
    return Message(role="assistant", content=text)
