"""What the constitutional stages leave behind: immutable records, each named by a hash of its content and inputs.

    Draft → Critique → Revision → … ;   two completions + Principle → Judgement, Judgement, … → Preference

`None` is a legal label everywhere: a judge that cannot be read has no opinion, and that is neither 0 nor a half.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, Self

from charter.types import Message

CritiqueVerdict = Literal["issue", "none", "unparsed"]
JudgementStatus = Literal["ok", "unparsed", "refused", "error"]


def record_id(kind: str, content: Mapping[str, Any]) -> str:
    """The first 16 hexadecimal digits of SHA-256 over the kind and the content as canonical JSON."""
    canonical = json.dumps([kind, content], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Base of all records."""

    kind: ClassVar[str]

    @property
    def id(self) -> str:
        """Stands for the record's whole content, and through the ids in it for its inputs'."""
        return record_id(self.kind, asdict(self))

    def row(self) -> dict[str, Any]:
        """The record as a line of `records.jsonl`."""
        return {"kind": self.kind, "id": self.id, **asdict(self)}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The record that `row` made; fields of later versions are left out."""
        names = {field.name for field in fields(cls)}
        values = {name: _frozen(value) for name, value in row.items() if name in names}
        return cls(**values)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft(Record):
    """A model's first reply to a prompt.

    prompt_id: the prompt's. messages: the whole conversation that was answered. model: name of who wrote it.
    purpose: "redteam" or "helpful". index: number of the reply, where a prompt has several.
    """

    kind: ClassVar[str] = "draft"

    prompt_id: str
    messages: tuple[Message, ...]
    text: str
    model: str
    purpose: str = "redteam"
    index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Critique(Record):
    """What a principle has against a reply.

    target: id of the Draft or Revision. principle: id. verdict: what was read out of the text.
    """

    kind: ClassVar[str] = "critique"

    target: str
    principle: str
    text: str
    verdict: CritiqueVerdict
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision(Record):
    """A reply rewritten under a principle.

    draft: id of the Draft it goes back to. parent: id of the Draft or Revision it rewrites. critique: id, or None for
    direct revision. step: counted from 1. fault: why it cannot be used ("" if it can): "meta_text", "empty",
    "unchanged", "truncated", "failed".
    """

    kind: ClassVar[str] = "revision"

    draft: str
    parent: str
    critique: str | None
    principle: str
    step: int
    text: str
    model: str
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance(Record):
    """Whether a revision is better than its draft. by: "judge", "rules" or "always". p: that it is, or None.

    accepted is false wherever p is None. preference: id of the Preference behind it, where a judge was asked.
    """

    kind: ClassVar[str] = "acceptance"

    revision: str
    draft: str
    by: str
    p: float | None
    accepted: bool
    reason: str = ""
    preference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement(Record):
    """One asking of a judge about two texts (or one, in mode "score" and "rubric").

    a, b: ids of what is compared, as the *pair* has them. order: "ab" where a was shown first, "ba" where b was.
    p_a: that a is better, whatever the order; None unless status is "ok". raw: what the judge said. mode: logprob, cot,
    score or rubric. model: name of the judge.
    """

    kind: ClassVar[str] = "judgement"

    a: str
    b: str
    principle: str
    order: Literal["ab", "ba"]
    mode: str
    p_a: float | None
    raw: str
    status: JudgementStatus
    model: str

    def __post_init__(self) -> None:
        if (self.p_a is None) == (self.status == "ok"):
            raise ValueError(f"a judgement of status {self.status!r} cannot have p_a = {self.p_a!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference(Record):
    """What all judgements of a pair say together.

    p_a: mean over the principles of the mean of both orders; None where any needed judgement is missing.
    position_gap: |p_AB − (1 − p_BA)|, the mean over the principles; None as p_a. members: ids of the judgements.
    """

    kind: ClassVar[str] = "preference"

    a: str
    b: str
    p_a: float | None
    position_gap: float | None
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion(Record):
    """One of the replies that are compared in the feedback stage."""

    kind: ClassVar[str] = "completion"

    prompt_id: str
    messages: tuple[Message, ...]
    text: str
    model: str
    purpose: str
    index: int


RECORDS: Mapping[str, type[Record]] = {
    record.kind: record for record in (Draft, Critique, Revision, Acceptance, Judgement, Preference, Completion)
}
"""Every kind of record by its name."""
