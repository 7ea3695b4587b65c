"""AI feedback: which of two replies keeps a principle better, asked of a judge in both orders.

    preferences = await compare(matches, judge, constitution, recipe.judge, journal, seed)

p_a of a pair is the mean over principles of the mean over both orders. Where any needed answer is missing (it could not
be read, the judge refused, the backend failed) p_a is None. What a failure left unsaid is not written, so that the next
run asks again; everything else is asked once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from charter.constitution.asking import Progress, ask, ask_choices, chat_request, choice_request
from charter.constitution.drawing import Strategy, draw
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
from charter.constitution.records import Judgement, JudgementStatus, Preference, record_id
from charter.errors import UsageError
from charter.protocols import ChatModel
from charter.run.records import Journal
from charter.types import ChatReply, ChatRequest, ChoiceReply, ChoiceRequest, Message, Pair

if TYPE_CHECKING:
    from charter.constitution.principles import Check, Constitution, Principle

Request = ChatRequest | ChoiceRequest
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
class Match:
    """Two replies to be compared, as `Compared` says."""

    messages: tuple[Message, ...]
    a: str
    b: str
    a_id: str
    b_id: str
    principle: str = ""

    @classmethod
    def of(cls, pair: Pair) -> Match:
        """The match of a pair; its replies have the hash of prompt and text for an id."""
        a_id, b_id = (record_id("reply", {"messages": list(pair.prompt.messages), "text": t}) for t in (pair.a, pair.b))
        return cls(messages=pair.prompt.messages, a=pair.a, b=pair.b, a_id=a_id, b_id=b_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A preference with the judgements behind it, principle by principle, order "ab" before "ba"."""

    preference: Preference
    judgements: tuple[Judgement, ...]


def judge_key(model: str, settings: JudgeSettings, constitution: Constitution, strategy: str = "uniform") -> str:
    """A hash of all that decides how a judge judges: what was calibrated is what may label."""
    content = {
        "model": model, "mode": settings.mode, "clamp": list(settings.clamp), "ensemble": settings.ensemble,
        "max_new_tokens": settings.max_new_tokens, "temperature": settings.temperature,
        "constitution": constitution.hash, "draw": strategy,
    }  # fmt: skip
    return record_id("judge", content)


async def compare(
    matches: Sequence[Compared],
    model: ChatModel,
    constitution: Constitution,
    settings: JudgeSettings,
    journal: Journal,
    seed: int,
    *,
    strategy: Strategy = "uniform",
    refuses: Refuses | None = None,
    decide: Decide | None = None,
    progress: Progress | None = None,
) -> list[Preference]:
    """One Preference per match, in order; everything is asked in one go.

    seed: fixes which principle is drawn, and the reasoning where its temperature is not 0. strategy: how it is drawn.
    refuses, decide: programs of `charter.constitution.checks`, which are taken where left out.
    Raises: UsageError where the model cannot be asked in this mode; BudgetError, with what came before it written.
    """
    judged = await judge(
        matches, model, constitution, settings, journal, seed,
        strategy=strategy, refuses=refuses, decide=decide, progress=progress,
    )  # fmt: skip
    return [one.preference for one in judged]


async def judge(
    matches: Sequence[Compared],
    model: ChatModel,
    constitution: Constitution,
    settings: JudgeSettings,
    journal: Journal,
    seed: int,
    *,
    strategy: Strategy = "uniform",
    refuses: Refuses | None = None,
    decide: Decide | None = None,
    progress: Progress | None = None,
) -> list[Judged]:
    """As `compare`, with the judgements behind each preference."""
    asker = _Asker(model=model, settings=settings, seed=seed, refuses=refuses or _refuses(), decide=decide or _decide())
    asker.check()
    pool = with_checks(constitution) if settings.mode == "rubric" else constitution
    under = [_principles(match, pool, settings, strategy, seed) for match in matches]
    needed: dict[str, Request] = {}
    for match, principles in zip(matches, under, strict=True):
        for principle in principles:
            needed.update({request.id: request for request in asker.requests(match, principle)})
    answers = await _answers(model, list(needed.values()), journal, progress)
    found: list[Judged] = []
    for match, principles in zip(matches, under, strict=True):
        judgements = [one for principle in principles for one in asker.judgements(match, principle, answers)]
        preference = _preference(match, judgements)
        for judgement in judgements:
            if judgement.status != "error":
                journal.append(judgement.row())
        if not any(judgement.status == "error" for judgement in judgements):
            journal.append(preference.row())
        found.append(Judged(preference=preference, judgements=tuple(judgements)))
    journal.sync()
    return found


async def rate(
    replies: Sequence[tuple[Sequence[Message], str]],
    model: ChatModel,
    principles: Sequence[Principle],
    settings: JudgeSettings,
    *,
    journal: Journal | None = None,
    refuses: Refuses | None = None,
    decide: Decide | None = None,
) -> list[Reading]:
    """Each reply to its conversation on a scale from −1 to 1, the mean over the principles.

    settings: of mode "score" or "rubric". A reply that could not be rated under one of the principles has no value.
    """
    asker = _Asker(model=model, settings=settings, seed=0, refuses=refuses or _refuses(), decide=decide or _decide())
    asker.check()
    needed = {
        request.id: request
        for messages, reply in replies
        for principle in principles
        for request in asker.about_one(messages, reply, principle)
    }
    answers = await _answers(model, list(needed.values()), journal, None)
    found: list[Reading] = []
    for messages, reply in replies:
        readings = [asker.value(messages, reply, principle, answers) for principle in principles]
        values = [reading.value for reading in readings if reading.value is not None]
        bad = next((reading for reading in readings if reading.value is None), None)
        mean = sum(values) / len(values) if values else 0.0
        found.append(bad or Reading(value=mean, raw="; ".join(one.raw for one in readings), status="ok"))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asker:
    """A judge's settings applied to one match and one principle: its requests, and what came of them."""

    model: ChatModel
    settings: JudgeSettings
    seed: int
    refuses: Refuses
    decide: Decide

    @property
    def can_choose(self) -> bool:
        return "choice_logprobs" in self.model.capabilities

    def check(self) -> None:
        """Raises: UsageError where the mode needs what the model does not have."""
        if self.settings.mode == "logprob" and not self.can_choose:
            raise UsageError(
                f'judge.mode = "logprob" needs log-probabilities, which {self.model.name} does not give. '
                'Write judge.mode = "cot" or "score", or ask a model that gives them'
            )

    def requests(self, match: Compared, principle: Principle) -> list[Request]:
        mode = self.settings.mode
        if mode == "logprob" or mode == "cot":
            return [self._pairwise(match, principle, order) for order in ("ab", "ba")]
        return [r for text in (match.a, match.b) for r in self.about_one(match.messages, text, principle)]

    def judgements(
        self, match: Compared, principle: Principle, answers: Mapping[str, ChatReply | ChoiceReply]
    ) -> list[Judgement]:
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
        answers: Mapping[str, ChatReply | ChoiceReply],
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


async def _answers(
    model: ChatModel, requests: Sequence[Request], journal: Journal | None, progress: Progress | None
) -> dict[str, ChatReply | ChoiceReply]:
    """Request id → answer; without a journal everything is asked."""
    chats = [request for request in requests if isinstance(request, ChatRequest)]
    choices = [request for request in requests if isinstance(request, ChoiceRequest)]
    answers: dict[str, ChatReply | ChoiceReply] = {}
    if journal is None:
        if chats:
            answers.update({reply.id: reply async for reply in model.generate(chats)})
        if choices:
            answers.update({answer.id: answer async for answer in model.choice_logprobs(choices)})
        return answers
    if chats:
        answers.update(await ask(model, chats, journal, progress))
    if choices:
        answers.update(await ask_choices(model, choices, journal, progress))
    return answers


def _principles(
    match: Compared, constitution: Constitution, settings: JudgeSettings, strategy: Strategy, seed: int
) -> tuple[Principle, ...]:
    if settings.ensemble == "all":
        return constitution.principles
    if match.principle and match.principle in constitution.ids:
        return (constitution.principle(match.principle),)
    # of both texts in one order, so that a pair and its mirror image are judged under the same principle
    key = record_id("match", {"messages": list(match.messages), "texts": sorted((match.a, match.b))})
    return (draw(constitution, strategy, seed, key, 1),)


def _preference(match: Compared, judgements: Sequence[Judgement]) -> Preference:
    """Means over the judgements; those of one principle lie side by side."""
    members = tuple(judgement.id for judgement in judgements)
    told = [judgement.p_a for judgement in judgements if judgement.p_a is not None]
    if len(told) < len(judgements) or not told:
        return Preference(a=match.a_id, b=match.b_id, p_a=None, position_gap=None, members=members)
    gaps = position_gaps(judgements)
    p = sum(told) / len(told)
    return Preference(
        # what rounding leaves of two orders that cancel out is no preference
        a=match.a_id, b=match.b_id, p_a=0.5 if abs(p - 0.5) < 1e-9 else p,
        position_gap=sum(gaps) / len(gaps) if gaps else 0.0, members=members,
    )  # fmt: skip


def position_gaps(judgements: Sequence[Judgement]) -> list[float]:
    """|p_AB − (1 − p_BA)| of each principle that was asked in both orders and answered in both."""
    return [abs(ab - ba) for ab, ba in both_orders(judgements)]


def both_orders(judgements: Sequence[Judgement]) -> list[tuple[float, float]]:
    """(p_a with a shown first, p_a with b shown first) of each principle that has both."""
    by: dict[str, dict[str, float]] = {}
    for judgement in judgements:
        if judgement.p_a is not None:
            by.setdefault(judgement.principle, {})[judgement.order] = judgement.p_a
    return [(orders["ab"], orders["ba"]) for orders in by.values() if len(orders) == 2]


def with_checks(constitution: Constitution) -> Constitution:
    """Only the principles that mode "rubric" can ask about. Raises: UsageError where there is none."""
    kept = tuple(p for p in constitution.principles if any(check.weight > 0 for check in p.checks))
    if not kept:
        raise UsageError(
            f'mode = "rubric" needs principles with checks, and constitution {constitution.name!r} has none. '
            "Write [[principle.check]] tables, or choose another mode"
        )
    return replace(constitution, principles=kept, lines={})


def _refuses() -> Refuses:
    from charter.constitution.checks import refuses

    return refuses


def _decide() -> Decide:
    from charter.constitution.checks import decide

    return decide
