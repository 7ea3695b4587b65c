"""Replies that speak about the work instead of doing it: "Here is the revised reply:", "the critique is right that …".

A model trained on them learns to talk about revising. They are dropped; only a label in front of what is otherwise a
clean reply is taken off, because there nothing is left to doubt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from charter.constitution.similarity import quotes, words

_OWN = r"(?:reply|response|answer|version|message|text|rewrite|revision)"
_NEW = r"(?:revised|rewritten|reworked|corrected|improved|updated|edited|new|better|safer|final|possible|suggested)"

_LABEL = re.compile(
    rf"""[*_#>\s]*(?:
        (?:(?:sure|certainly|of\s+course|okay|ok|absolutely)\s*[,.!:]\s*)?
        (?:here\s*(?:is|'s|’s|are)|this\s+is|below\s+is|the\s+following\s+is)\s+(?:(?:my|the|a|an|one|your)\s+)?
        (?:{_NEW}\s+){{1,2}}(?:assistant\s+)?{_OWN}(?:\s+(?:of|to|for)\s+(?:the|your|my)\s+(?:reply|response|answer|user|conversation|message))?
        | (?:(?:my|the)\s+)?{_NEW}\s+(?:assistant\s+)?{_OWN}
        | (?:revision|rewrite|reply|response|answer|assistant)
    )[*_\s]*:[*_\s]*""",
    re.I | re.X,
)
"""A label at the very beginning, up to and including its colon."""

_LEADING = re.compile(
    r"""[*_#>\s]*(?:(?:no\s+)?issues?|critique|criticism|principle|verdict|assessment|analysis|feedback|explanation
    |changes?(?:\s+made)?|reasoning|note|conversation|user|original\s+(?:reply|response))[*_\s]*:""",
    re.I | re.X,
)
"""A label that no reply to a user begins with, and that cannot be taken off: what follows is not the reply."""

_TALK = re.compile(
    rf"""
      \b(?:the|this|that|your|my)\s+critiques?\b | \bas\s+an?\s+(?:ai|language\s+model)\s+review\w*
    | \b(?:the|this|my)\s+(?:revised|rewritten|reworked|corrected)\s+{_OWN}\b | \b(?:the|my|this)\s+revision\b
    | \b(?:the|my|this)\s+(?:original|previous|old|earlier|initial|first)\s+(?:reply|response|answer|draft)\b
    | \bthe\s+assistant(?:'s|’s)?\s+(?:reply|response|answer|should|could|must|has|did|does|is|was)\b
    | \b(?:the|this)\s+(?:reply|response)\s+(?:should|could|must|is|was|does|did|falls|fails|violates|needs)\b
    | \bi(?:'ve|’ve|\s+have)?\s+(?:revised|rewritten|rewrote|reworded|edited|removed|changed|adjusted|modified)\s+
      (?:the|my|this|that|it)\b
    | \b(?:to|that|which)\s+(?:address|fix|resolve)(?:es|s)?\s+(?:the|this|these)
      \s+(?:issues?|problems?|critiques?|concerns?\s+raised)\b
    | \b(?:in\s+(?:line|accordance|keeping)\s+with|according\s+to|under|following|violates?|violating)
      \s+(?:the|this|your)\s+(?:given\s+|stated\s+)?principles?\b
    | \b(?:rewrite|revise)\s+(?:the|this)\s+(?:reply|response|answer)\b
    """,
    re.I | re.X,
)
"""Talk about replies, revisions and critiques, wherever it stands."""

PRINCIPLE_RUN, CRITIQUE_RUN = 8, 12
"""Words in a row that a reply has from the principle, or the critique, and from nowhere else, before it quotes them."""

_PAIRS = {'"': '"', "“": "”", "«": "»"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A reply as it can be used. stripped: a label was taken off. meta: why it is meta-text, or ""."""

    text: str
    stripped: bool = False
    meta: str = ""


def read_reply(
    text: str,
    *,
    conversation: Sequence[str] = (),
    previous: Sequence[str] = (),
    requests: Sequence[str] = (),
    critique: str = "",
) -> Reading:
    """Take an unambiguous label off a reply, and say whether the rest is meta-text.

    conversation: what the user and the assistant said; a phrase that stands there too is their subject and does not
    count. previous: the replies before this one; what was in them was not quoted from elsewhere. requests: the
    principle's text and phrasings. critique: the critique behind the revision.
    """
    stripped, kept = without_label(text)
    return Reading(text=kept, stripped=stripped, meta=_meta(kept, conversation, previous, requests, critique))


def without_label(text: str) -> tuple[bool, str]:
    """(whether a label was taken off, the text without it and without the quotation marks it had put around)."""
    label = _LABEL.match(text)
    kept = text.strip()
    if label is None or not text[label.end() :].strip():
        return False, kept
    kept = text[label.end() :].strip()
    closing = _PAIRS.get(kept[0])
    if closing is not None and len(kept) > 2 and kept.endswith(closing) and closing not in kept[1:-1]:
        kept = kept[1:-1].strip()
    return True, kept


def _meta(
    text: str, conversation: Sequence[str], previous: Sequence[str], requests: Sequence[str], critique: str
) -> str:
    if leading := (_LEADING.match(text) or _LABEL.match(text)):
        return f"begins with {leading[0].strip()!r}"
    said = [f" {' '.join(words(part))} " for part in conversation]
    for found in _TALK.finditer(text):
        phrase = " ".join(words(found[0]))
        if not any(f" {phrase} " in part for part in said):
            return f"says {' '.join(found[0].split())!r}"
    known = (*conversation, *previous)
    if any(quotes(text, request, PRINCIPLE_RUN, apart_from=known) for request in requests):
        return "quotes the principle"
    if quotes(text, critique, CRITIQUE_RUN, apart_from=known):
        return "quotes the critique"
    return ""
