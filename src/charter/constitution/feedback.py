"""AI feedback: which of two replies keeps a principle better, asked of a judge in both orders.

    preferences = await compare(matches, judge, constitution, recipe.judge, journal, seed)

p_a of a pair is the mean over principles of the mean over both orders. Where any needed answer is missing (it could not
be read, the judge refused, the backend failed) p_a is None. What a failure left unsaid is not written, so that the next
run asks again; everything else is asked once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from charter.constitution.asking import Progress, ask, ask_choices
from charter.constitution.drawing import Strategy, draw
from charter.constitution.judging import JudgeSettings, Reading, Refuses, way_of_asking
from charter.constitution.questions import Compared, Decide, Questions, Request
from charter.constitution.records import Judgement, Preference, record_id
from charter.errors import UsageError
from charter.protocols import ChatModel
from charter.run.records import Journal
from charter.types import ChatReply, ChatRequest, ChoiceReply, ChoiceRequest, Message, Pair

if TYPE_CHECKING:
    from charter.constitution.principles import Constitution, Principle


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
        "constitution": constitution.hash, "draw": strategy, "asked": way_of_asking(),
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
    questions = Questions(
        model=model, settings=settings, seed=seed, refuses=refuses or _refuses(), decide=decide or _decide()
    )
    questions.check()
    pool = with_checks(constitution) if settings.mode == "rubric" else constitution
    under = [_principles(match, pool, settings, strategy, seed) for match in matches]
    needed: dict[str, Request] = {}
    for match, principles in zip(matches, under, strict=True):
        for principle in principles:
            needed.update({request.id: request for request in questions.requests(match, principle)})
    answers = await _answers(model, list(needed.values()), journal, progress)
    found: list[Judged] = []
    for match, principles in zip(matches, under, strict=True):
        judgements = [one for principle in principles for one in questions.judgements(match, principle, answers)]
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
    questions = Questions(
        model=model, settings=settings, seed=0, refuses=refuses or _refuses(), decide=decide or _decide()
    )
    questions.check()
    needed = {
        request.id: request
        for messages, reply in replies
        for principle in principles
        for request in questions.about_one(messages, reply, principle)
    }
    answers = await _answers(model, list(needed.values()), journal, None)
    found: list[Reading] = []
    for messages, reply in replies:
        readings = [questions.value(messages, reply, principle, answers) for principle in principles]
        values = [reading.value for reading in readings if reading.value is not None]
        bad = next((reading for reading in readings if reading.value is None), None)
        mean = sum(values) / len(values) if values else 0.0
        found.append(bad or Reading(value=mean, raw="; ".join(one.raw for one in readings), status="ok"))
    return found


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
