"""What a model's text says: the verdict of a critique, the prompts of a list, where its last whole sentence ends."""

from __future__ import annotations

import re
from dataclasses import dataclass

from charter.constitution.records import CritiqueVerdict

_MARKS = " \t\r\n*_#>`\"'“”‘’-"
_NOUNS = r"(?:issues?|problems?|concerns?|faults?|violations?|objections?)"
_FREE = rf"no\s+(?:\w+\s+){{0,2}}?{_NOUNS}"
"""no issue, no real problem, no major ethical concerns"""

_LABEL_NONE = re.compile(
    rf"(?:{_FREE}|none|nothing(?:\s+is)?\s+wrong|nothing\s+to\s+(?:fix|change|criticise|criticize))\b", re.I
)
_LABEL_ISSUE = re.compile(rf"{_NOUNS}\b[\s*_]*(?:\d+[\s*_]*)?[:\-–—.]\s*", re.I)
_REST_NONE = re.compile(
    rf"[{_MARKS}]*(?:none|n/?a|nothing|{_FREE})\b(?:\s+(?:found|here|identified|detected))?[\s.!]*$", re.I
)

_SOUND = re.compile(
    rf"""\b(?:
      {_FREE} | nothing\s+(?:is\s+|to\s+be\s+)?(?:wrong|harmful|problematic|objectionable)
    | nothing\s+to\s+(?:fix|change|criticise|criticize|improve)
    | no\s+(?:further\s+)?(?:revisions?|changes?|improvements?)\s+(?:is|are|was|were)?\s*(?:needed|necessary|required)
    | (?:does|do|did)(?:\s+not|n't)\s+(?:\w+\s+)?(?:contain|have|include|show|violate|break|promote|encourage|raise
      |pose)\b[^.;]*
    | (?:is|are|was)(?:\s+not|n't)\s+(?:\w+\s+)?
      (?:harmful|unethical|dangerous|toxic|offensive|problematic|inappropriate|misleading|biased)
    | (?:fully\s+|already\s+)?(?:complies|adheres|conforms|consistent|in\s+line|in\s+keeping|aligned)\s+(?:with|to)
    | (?:meets|satisfies|follows|respects|honours|honors)\s+(?:the|this)\s+(?:principle|standard|rule)
    | (?:is|are|was|seems|looks|appears)\s+(?:\w+\s+)?(?:acceptable|appropriate|fine|harmless|safe|good\s+as\s+it\s+is)
    )""",
    re.I | re.X,
)
_WRONG = re.compile(
    r"""\b(?:
      harm(?:ful|s)?|unethical|illegal|unlawful|dangerous|unsafe|toxic|misleading|dishonest|inappropriate|offensive
    | problematic|wrong|false|untrue|racist|sexist|biased|hateful|rude|evasive|vague|repetitive|irresponsible|insulting
    | fail(?:s|ed)?\s+to|falls?\s+short|violat(?:es|ed)|ignor(?:es|ed)|lacks?|missing|omits|overlooks|neglects
    | should(?:\s+not|n't|\s+have|\s+instead|\s+be|\s+at\s+least)
    | could\s+(?:harm|hurt|help\s+someone|be\s+used|lead|enable)
    | (?:does|did|do)(?:\s+not|n't)|encourag(?:es|ed|ing)|promot(?:es|ed|ing)|enabl(?:es|ed|ing)|instead\s+of
    | (?:gives|provides|offers|explains|describes)
      \s+(?:\w+\s+){0,3}?(?:instructions|steps|how\s+to|(?:a\s+)?ways?\s+to)
    | too\s+(?:long|short|vague|harsh|blunt|detailed)
    )\b""",
    re.I | re.X,
)
_BUT = re.compile(r"\b(?:but|however|although|though|nevertheless|except|yet|that said)\b", re.I)


def critique_verdict(text: str) -> CritiqueVerdict:
    """What a critique says of the reply: that it falls short, that it does not, or nothing that can be read.

    A label in front decides ("Issue: …", "No issue: …", "Issues: none"). Without one the wording does, where it speaks
    for one side only; a sentence that finds nothing wrong and then turns ("no issue, but …") finds an issue.
    """
    told = text.strip(_MARKS)
    if not told:
        return "unparsed"
    if label := _LABEL_ISSUE.match(told):
        rest = told[label.end() :].strip(_MARKS)
        if not rest:
            return "unparsed"
        return "none" if _REST_NONE.match(rest) else "issue"
    if label := _LABEL_NONE.match(told):
        return "issue" if _turns(told[label.end() :]) else "none"
    sound = _SOUND.search(told)
    wrong = _WRONG.search(_SOUND.sub(" ", told))
    if sound and _turns(told[sound.end() :]):
        return "issue"
    if sound:
        return "unparsed" if wrong else "none"
    return "issue" if wrong else "unparsed"


def _turns(rest: str) -> bool:
    but = _BUT.search(rest)
    return but is not None and _WRONG.search(_SOUND.sub(" ", rest[but.end() :])) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Prompts read out of a reply. off_format: lines that were not one."""

    prompts: tuple[str, ...]
    off_format: int


SHORTEST_WORDS, LONGEST_CHARACTERS = 3, 400
"""A line with fewer words, or more characters, is no prompt that a model was asked for."""

_ITEM = re.compile(r"\s*(?:[-*•]|\(?\d{1,3}[.):])\s*(\S.*)$")


def listed_prompts(text: str, *, cut: bool = False) -> Listed:
    """The items of a list, one per line; where no line is numbered or has a bullet, each line is an item.

    cut: the reply ended at the token limit, so that its last line is part of one.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    off_format = 0
    if cut and lines:
        lines.pop()
        off_format += 1
    items = [_ITEM.match(line) for line in lines]
    marked = any(item is not None for item in items)
    prompts: list[str] = []
    for line, item in zip(lines, items, strict=True):
        told = item[1] if item is not None else line
        prompt = told.strip().strip('"“”*_').strip()
        usable = len(prompt.split()) >= SHORTEST_WORDS and len(prompt) <= LONGEST_CHARACTERS
        if usable and not prompt.endswith(":") and (item is not None or not marked):
            prompts.append(prompt)
        else:
            off_format += 1
    return Listed(prompts=tuple(prompts), off_format=off_format)


_END = re.compile(r"[.!?…][\"”’')\]]*(?=\s|$)")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|Mr|Mrs|Ms|Dr|St|No)|(?:^|\n)[ \t]*\d{1,3}|\b[A-Z])\.$")


TAIL = 24
"""Characters before a full stop in which an abbreviation or the number of a list stands."""


def whole_sentences(text: str) -> str:
    """The text up to the end of its last whole sentence; empty where none ends."""
    for end in reversed(list(_END.finditer(text))):
        kept = text[: end.end()]
        if not _ABBREVIATION.search(kept[-TAIL:]):
            return kept.rstrip()
    return ""
