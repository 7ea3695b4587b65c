"""A judge's settings applied to one comparison and one principle: what must be asked, and what came of it.

*Not here*: the texts and their parsing (`judging`), the asking (`feedback`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from charter.constitution.asking import chat_request, choice_request
from charter.constitution.judging import (
    BEGIN,
    CHOICES,
    JudgeSettings,
    Reading,
    Refuses,
    check_messages,
    clamped,
    pairwise_messages,
    preferred,
    rating_messages,
    read_choice,
    read_rating,
    read_scores,
    read_verdict,
    read_yes_no,
)
from charter.constitution.records import Judgement, JudgementStatus
from charter.errors import UsageError
from charter.protocols import ChatModel
from charter.types import ChatReply, ChatRequest, ChoiceReply, ChoiceRequest, Message

if TYPE_CHECKING:
    from charter.constitution.principles import Check, Principle

Request = ChatRequest | ChoiceRequest
Answers = Mapping[str, ChatReply | ChoiceReply]
"""Request id → what came of it."""
Order = Literal["ab", "ba"]


class Compared(Protocol):
    """Two replies to one conversation. a_id, b_id: of their records. principle: an id, or "" where one is drawn."""

    @property
    def messages(self) -> Sequence[Message]: ...
    @property
    def a(self) -> str: ...
    @property
    def b(self) -> str: ...
    @property
    def a_id(self) -> str: ...
    @property
    def b_id(self) -> str: ...
    @property
    def principle(self) -> str: ...


class Decide(Protocol):
    """A program's answer to a check, or None where it cannot tell."""

    def __call__(self, check: Check, messages: Sequence[Message], reply: str, /) -> bool | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """How one judge is asked. seed: of reasoning that is drawn (a temperature above 0). refuses, decide: programs."""

    model: ChatModel
    settings: JudgeSettings
    seed: int
    refuses: Refuses
    decide: Decide

    @property
    def can_choose(self) -> bool:
        """Whether the model tells how likely each answer is."""
        return "choice_logprobs" in self.model.capabilities

    def check(self) -> None:
        """Raises: UsageError where the mode needs what the model does not have."""
        if self.settings.mode == "logprob" and not self.can_choose:
            raise UsageError(
                f'judge.mode = "logprob" needs log-probabilities, which {self.model.name} does not give. '
                'Write judge.mode = "cot" or "score", or ask a model that gives them'
            )

    def requests(self, match: Compared, principle: Principle) -> list[Request]:
        """What must be asked to compare two replies under a principle."""
        mode = self.settings.mode
        if mode == "logprob" or mode == "cot":
            return [self._pairwise(match, principle, order) for order in ("ab", "ba")]
        return [r for text in (match.a, match.b) for r in self.about_one(match.messages, text, principle)]

    def judgements(self, match: Compared, principle: Principle, answers: Answers) -> list[Judgement]:
        """Of both orders where the order is shown, else one of order "ab"."""
        mode = self.settings.mode
        if mode == "logprob" or mode == "cot":
            found: list[Judgement] = []
            for order in ("ab", "ba"):
                reading = self._read(answers[self._pairwise(match, principle, order).id])
                p = reading.value if order == "ab" or reading.value is None else 1 - reading.value
                if p is not None and mode == "cot":
                    p = clamped(p, self.settings.clamp)
                found.append(self._judgement(match, principle, order, p, reading.raw, reading.status))
            return found
        a, b = (self.value(match.messages, text, principle, answers) for text in (match.a, match.b))
        raw = json.dumps({"a": a.raw, "b": b.raw}, ensure_ascii=False)
        if a.value is None or b.value is None:
            bad = b if a.value is not None or b.status == "error" else a
            return [self._judgement(match, principle, "ab", None, raw, bad.status)]
        return [self._judgement(match, principle, "ab", preferred(a.value, b.value), raw, "ok")]

    def about_one(self, messages: Sequence[Message], reply: str, principle: Principle) -> list[Request]:
        """What must be asked to place one reply between −1 and 1."""
        if self.settings.mode == "score":
            return [self._request(rating_messages(messages, reply, principle))]
        return [
            self._request(check_messages(messages, reply, check))
            for check in principle.checks
            if check.weight > 0 and self.decide(check, messages, reply) is None
        ]

    def value(
        self,
        messages: Sequence[Message],
        reply: str,
        principle: Principle,
        answers: Answers,
    ) -> Reading:
        """Where one reply stands between −1 and 1."""
        if self.settings.mode == "score":
            answer = answers[self._request(rating_messages(messages, reply, principle)).id]
            return read_scores(answer) if isinstance(answer, ChoiceReply) else read_rating(answer, self.refuses)
        told: dict[str, float] = {}
        share = total = 0.0
        for check in (check for check in principle.checks if check.weight > 0):
            decided = self.decide(check, messages, reply)
            if decided is None:
                reading = self._read(answers[self._request(check_messages(messages, reply, check)).id])
                if reading.value is None:
                    raw = json.dumps({check.question: reading.raw}, ensure_ascii=False)
                    return replace(reading, raw=raw)
                yes = reading.value
            else:
                yes = float(decided)
            told[check.question] = round(yes, 4)
            share += check.weight * (yes if check.wanted else 1 - yes)
            total += check.weight
        raw = json.dumps(told, ensure_ascii=False)
        return Reading(value=2 * share / total - 1, raw=raw, status="ok")

    def _pairwise(self, match: Compared, principle: Principle, order: Order) -> Request:
        first, second = (match.a, match.b) if order == "ab" else (match.b, match.a)
        mode = "cot" if self.settings.mode == "cot" else "logprob"
        return self._request(pairwise_messages(match.messages, first, second, principle, mode))

    def _request(self, messages: tuple[Message, ...]) -> Request:
        mode = self.settings.mode
        if mode != "cot" and self.can_choose:
            begun = "begin" in self.model.capabilities
            choices = [f" {choice}" if begun else choice for choice in CHOICES[mode]]
            return choice_request(self.model.name, messages, choices, begin=BEGIN[mode] if begun else "")
        drawn = self.settings.temperature > 0
        return chat_request(
            self.model.name, messages, max_new_tokens=self.settings.max_new_tokens,
            temperature=self.settings.temperature, salt=str(self.seed) if drawn else "",
        )  # fmt: skip

    def _read(self, answer: ChatReply | ChoiceReply) -> Reading:
        """P of the first of two answers: A of A and B, yes of yes and no."""
        if isinstance(answer, ChoiceReply):
            return read_choice(answer)
        return (read_verdict if self.settings.mode == "cot" else read_yes_no)(answer, self.refuses)

    def _judgement(
        self, match: Compared, principle: Principle, order: Order, p: float | None, raw: str, status: JudgementStatus
    ) -> Judgement:
        return Judgement(
            a=match.a_id, b=match.b_id, principle=principle.id, order=order, mode=self.settings.mode, p_a=p, raw=raw,
            status=status, model=self.model.name,
        )  # fmt: skip
