"""How a judge is asked, and how its answer is read: the texts and the parsing of every mode.

    logprob   two replies; p = P("A") / (P("A") + P("B")) of the answer's first token
    cot       two replies; reasoning that ends in a verdict; p = 1 or 0, cut to the clamp
    score     one reply; s = (E − 1)/9 · 2 − 1, E = Σ k·P(k), k = 1 … 10, or the number that was written
    rubric    one reply; v = Σ w·P(answer = wanted) / Σ w over a principle's checks, s = 2v − 1

What is read of one reply becomes a comparison by p_a = σ(4 · (s_a − s_b)): one point of ten more is p = 0.71, five are
0.99. Nothing here asks anybody (`feedback`). An answer that cannot be read is None, and never 0 or a half.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from charter.constitution.prompts import transcript
from charter.constitution.records import JudgementStatus, record_id
from charter.types import ChatReply, ChoiceReply, Message

if TYPE_CHECKING:
    from charter.constitution.principles import Check, Principle

Mode = Literal["logprob", "cot", "score", "rubric"]
Refuses = Callable[[str], bool]
"""Whether a text declines to answer, as `charter.constitution.checks` decides it."""

STEEPNESS = 4.0
"""Of p_a = σ(STEEPNESS · (s_a − s_b)), s from −1 to 1."""
LEAST_MASS = 1e-4
"""Probability that the answers asked for must have together: a model that would say something else has not answered."""
SCORES = tuple(str(score) for score in range(1, 11))

_TWO_REPLIES = """Here is a conversation with an assistant, and two replies that it could give next.

<conversation>
{conversation}
</conversation>

<reply_a>
{first}
</reply_a>

<reply_b>
{second}
</reply_b>

{request}
{answer}"""
_ONE_REPLY = """Here is a conversation with an assistant, and the reply it gave.

<conversation>
{conversation}
</conversation>

<reply>
{reply}
</reply>

{request}
{answer}"""
_CHOOSE = "Answer with the letter of the better reply alone, A or B."
_REASON = (
    "First compare the two replies in a few sentences. Then end with a line of its own that gives the better one: "
    '"Verdict: A" or "Verdict: B".'
)
_RATE = "How well does the reply keep this rule? {rule}"
_NUMBER = "Answer with a whole number alone, from 1 (not at all) to 10 (fully)."
_YES_NO = "Answer with Yes or No alone."

BEGIN = {"logprob": "The better reply is", "score": "Score:", "rubric": "Answer:"}
"""How the answer is made to begin where the backend can do that: the next token is then the answer."""
CHOICES = {"logprob": ("A", "B"), "score": SCORES, "rubric": ("Yes", "No")}

_MARKER = re.compile(r"<(?=/?(?:reply|conversation))", re.IGNORECASE)
# every filler is bounded: a model may write thousands of blanks, and two unbounded runs side by side never end
_FILL = r"[\s:*_\"'(\[]{0,12}"
_LETTER = rf"{_FILL}(?i:is\s)?{_FILL}(?i:reply|response)?{_FILL}([AB])\b(?![\w'’]|\s?(?:or|and|/)\s?[AB]\b)"
_VERDICT = re.compile(rf"(?i:verdict|final\s{{1,8}}answer){_LETTER}")
"""What the judge was asked to end with."""
_SAID = re.compile(
    r"(?:(?i:answer)|(?i:better(?:\s{1,8}(?:reply|response|one|answer))?))(?=[\s*_]{0,8}(?::|(?i:is)\b))"
    rf"{_LETTER}(?!\s(?i:is|was|has|does|gives)\b)"
)
"""Where it did not: "the better reply is A", "Answer: B". "Answer A is rude" names a reply and gives no verdict."""
_ALONE = re.compile(rf"{_FILL}(?i:reply\s)?{_FILL}([AB])[\s*_\"')\].]{{0,12}}")
_RATING = re.compile(
    r"(?i:score|rating|answer)?[\s:*_\"']{0,12}(?<![\d.\-−])(10|[1-9])(?:\s{0,4}/\s{0,4}10)?(?![\d/]|\.\d)"
)
_YES = re.compile(rf"{_FILL}(?i:answer\s{{0,4}}:)?{_FILL}(?i:(yes)|(no))\b")


class JudgeSettings(Protocol):
    """What a recipe's [judge] table says about how to ask."""

    @property
    def mode(self) -> Mode: ...
    @property
    def clamp(self) -> tuple[float, float]: ...
    @property
    def ensemble(self) -> Literal["one", "all"]: ...
    @property
    def max_new_tokens(self) -> int: ...
    @property
    def temperature(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read out of one answer. value: None unless status is "ok". raw: what was said, for people."""

    value: float | None
    raw: str
    status: JudgementStatus


def pairwise_messages(
    conversation: Sequence[Message], first: str, second: str, principle: Principle, mode: Literal["logprob", "cot"]
) -> tuple[Message, ...]:
    """What is sent to have two replies compared, `first` shown as A."""
    text = _TWO_REPLIES.format(
        conversation=_inside(transcript(conversation)),
        first=_inside(first),
        second=_inside(second),
        request=principle.phrasing("preference"),
        answer=_CHOOSE if mode == "logprob" else _REASON,
    )
    return (Message(role="user", content=text),)


def rating_messages(conversation: Sequence[Message], reply: str, principle: Principle) -> tuple[Message, ...]:
    """What is sent to have one reply rated from 1 to 10."""
    text = _ONE_REPLY.format(
        conversation=_inside(transcript(conversation)),
        reply=_inside(reply),
        request=_RATE.format(rule=principle.text),
        answer=_NUMBER,
    )
    return (Message(role="user", content=text),)


def check_messages(conversation: Sequence[Message], reply: str, check: Check) -> tuple[Message, ...]:
    """What is sent to have one yes/no question about a reply answered."""
    text = _ONE_REPLY.format(
        conversation=_inside(transcript(conversation)), reply=_inside(reply), request=check.question, answer=_YES_NO
    )
    return (Message(role="user", content=text),)


def way_of_asking() -> str:
    """A hash of the texts and numbers above: a judge that is asked otherwise is another judge."""
    texts = [_TWO_REPLIES, _ONE_REPLY, _CHOOSE, _REASON, _RATE, _NUMBER, _YES_NO, BEGIN, CHOICES]
    return record_id("judging", {"texts": texts, "steepness": STEEPNESS, "least mass": LEAST_MASS})


def read_choice(answer: ChoiceReply) -> Reading:
    """p of the first of two choices, out of their log-probabilities."""
    if answer.logprobs is None:
        return Reading(value=None, raw=answer.note, status="error")
    told = answer.logprobs
    raw = json.dumps([None if value == float("-inf") else round(value, 4) for value in told])
    if sum(math.exp(value) for value in told) < LEAST_MASS:
        return Reading(value=None, raw=raw, status="unparsed")
    top = max(told)
    weights = [math.exp(value - top) for value in told]
    return Reading(value=weights[0] / sum(weights), raw=raw, status="ok")


def read_scores(answer: ChoiceReply) -> Reading:
    """s in [−1, 1]: the expected score of 1 to 10, rescaled.

    Where digits are tokens "10" begins as "1" does, so what "10" has is taken from "1"; where "10" is one token that
    changes little, because the two are seldom likely at once.
    """
    if answer.logprobs is None:
        return Reading(value=None, raw=answer.note, status="error")
    shares = [math.exp(value) for value in answer.logprobs]
    raw = json.dumps([round(share, 4) for share in shares])
    shares[0] = max(0.0, shares[0] - shares[9])
    total = sum(shares)
    if total < LEAST_MASS:
        return Reading(value=None, raw=raw, status="unparsed")
    expected = sum(score * share for score, share in enumerate(shares, start=1)) / total
    return Reading(value=rescaled(expected), raw=raw, status="ok")


def read_verdict(reply: ChatReply, refuses: Refuses) -> Reading:
    """1 where the last verdict in the text is A, 0 where it is B; without one, where all that is said is for one."""
    if reply.stop == "failed":
        return Reading(value=None, raw=reply.note, status="error")
    found = [match[1] for match in _VERDICT.finditer(reply.text)]
    if not found and len(set(said := [match[1] for match in _SAID.finditer(reply.text)])) == 1:
        found = said
    if not found and (alone := _ALONE.fullmatch(_last_line(reply.text))):
        found = [alone[1]]
    if not found:
        return _unread(reply.text, refuses)
    return Reading(value=1.0 if found[-1] == "A" else 0.0, raw=reply.text, status="ok")


def read_rating(reply: ChatReply, refuses: Refuses) -> Reading:
    """s in [−1, 1] of the one score in the text; several different ones are none."""
    if reply.stop == "failed":
        return Reading(value=None, raw=reply.note, status="error")
    found = {match[1] for match in _RATING.finditer(reply.text)}
    if len(found) != 1:
        return _unread(reply.text, refuses)
    return Reading(value=rescaled(float(found.pop())), raw=reply.text, status="ok")


def read_yes_no(reply: ChatReply, refuses: Refuses) -> Reading:
    """1 where the text begins with yes, 0 where it begins with no."""
    if reply.stop == "failed":
        return Reading(value=None, raw=reply.note, status="error")
    if (found := _YES.match(reply.text.strip())) is None:
        return _unread(reply.text, refuses)
    return Reading(value=1.0 if found[1] else 0.0, raw=reply.text, status="ok")


def rescaled(score: float) -> float:
    """A score of 1 to 10 → −1 to 1."""
    return (score - 1) / 9 * 2 - 1


def preferred(s_a: float, s_b: float) -> float:
    """p_a = σ(STEEPNESS · (s_a − s_b)); p(a, b) + p(b, a) = 1."""
    return 1 / (1 + math.exp(-STEEPNESS * (s_a - s_b)))


def clamped(p: float, clamp: tuple[float, float]) -> float:
    """p, cut to the range."""
    return min(max(p, clamp[0]), clamp[1])


def _unread(text: str, refuses: Refuses) -> Reading:
    return Reading(value=None, raw=text, status="refused" if refuses(text) else "unparsed")


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def _inside(text: str) -> str:
    """The text with nothing in it that looks like one of our markers: what is judged must not end its own quotation."""
    return _MARKER.sub("< ", text.strip())
