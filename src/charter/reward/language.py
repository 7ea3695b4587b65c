"""`language`: what share of a completion is written in a language. No network, no model: scripts and function words.

Letters are counted by script. Languages that share a script are told apart, stretch by stretch, by their function
words. Formulas, code and addresses are left out first: they belong to no language. One pass per stretch, so it needs
no worker. Not here: the word lists (`language_words.py`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from charter.reward.language_words import EXCLUSIVE, FUNCTION_WORDS, LANGUAGES, SCRIPTS
from charter.reward.math import reference_column
from charter.reward.runtime import NamedReward, Verdict, failed, scored
from charter.types import Prompt, Rollout

STRETCH = 400
"""Characters of a stretch at most: long enough for function words, short enough to see a switch of language."""
CLEAR_WORDS = 12
"""Words from which a text without one function word of its script's languages is taken for no language."""

_LEFT_OUT = re.compile(r"\\[A-Za-z]+|https?://\S+|www\.\S+|</?[A-Za-z][\w.-]{0,40}>")
_SENTENCE = re.compile(r"[^.!?。！？\n؟।]+")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")


class LanguageOptions(BaseModel):
    """Options of `language`: exactly one of language and column."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    language: str | None = Field(None, description=f"ISO 639-1 code: {', '.join(LANGUAGES)}.")
    column: str | None = Field(None, description="Column with each row's language code.")
    at_least: float | None = Field(
        None, gt=0, le=1, description="Score 1 from this share on and 0 below, instead of the share."
    )

    @field_validator("language")
    @classmethod
    def _is_known(cls, language: str | None) -> str | None:
        if language is not None and language not in LANGUAGES:
            raise ValueError(f"{language!r} is not one of the languages it tells apart: {', '.join(LANGUAGES)}")
        return language

    @model_validator(mode="after")
    def _one(self) -> LanguageOptions:
        if (self.language is None) == (self.column is None):
            raise ValueError("give exactly one of language and column")
        return self


@lru_cache(maxsize=65_536)
def script_of(character: str) -> str | None:
    """The script of a letter, "other" for one that is not listed; None for digits and signs."""
    if not character.isalpha():
        return None
    code = ord(character)
    return next((s for s, ranges in SCRIPTS.items() if any(low <= code <= high for low, high in ranges)), "other")


def _without_pairs(text: str, mark: str) -> str:
    """The text without what stands between two of the marks; a mark without a partner stays."""
    parts = text.split(mark)
    if len(parts) % 2 == 0:
        parts[-2:] = [mark.join(parts[-2:])]
    return " ".join(parts[::2])


def prose(text: str) -> str:
    """The text without fenced and inline code, formulas, LaTeX commands, tags and web addresses."""
    for mark in ("```", "`", "$$", "$"):
        text = _without_pairs(text, mark)
    return _LEFT_OUT.sub(" ", text)


def stretches(text: str) -> Iterator[str]:
    """Pieces of at most STRETCH characters that end where sentences and lines do."""
    for sentence in _SENTENCE.finditer(text):
        piece = sentence.group()
        for start in range(0, len(piece), STRETCH):
            yield piece[start : start + STRETCH]


def _scripts(text: str) -> Counter[str]:
    return Counter(script for script in map(script_of, text) if script is not None)


def _speakers(lists: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Word or letter → the languages that list it."""
    found: dict[str, list[str]] = {}
    for code, entries in lists.items():
        for entry in entries:
            found.setdefault(entry, []).append(code)
    return found


_WORD_OF = _speakers(FUNCTION_WORDS)
_LETTER_OF = _speakers(EXCLUSIVE)


def _votes(text: str, rivals: Sequence[str]) -> dict[str, int]:
    """Function words of each language in the text, with the letters that only it has.

    It goes over the text, not over the lists: a text of very many short sentences would pay for the lists in each.
    """
    votes = dict.fromkeys(rivals, 0)
    for word in _WORD.findall(text.lower().replace("’", "'")):
        for code in _WORD_OF.get(word, ()):
            if code in votes:
                votes[code] += 1
    for letter in _LETTER_OF.keys() & set(text):
        for code in _LETTER_OF[letter]:
            if code in votes:
                votes[code] += text.count(letter)
    return votes


def _belongs(votes: Mapping[str, int], language: str) -> bool | None:
    """Whether the language leads (a tie counts for it); None when no function word was seen."""
    most = max(votes.values(), default=0)
    return None if most == 0 else votes.get(language, 0) == most


def language_share(text: str, language: str) -> tuple[float, str]:
    """The share of a text's letters that stand in a language, in [0, 1], and a sentence why.

    A letter counts when its script is one of the language's and its stretch is not led by another language of that
    script. A stretch without function words goes with the whole text; a whole text of at least 12 words without any is
    in no language. Japanese is Han with Kana in the same stretch or text, Chinese is Han without.
    """
    text = prose(text)
    whole = _scripts(text)
    letters = sum(whole.values())
    if not letters:
        return 0.0, "there are no letters"
    mine = LANGUAGES[language]
    rivals = [code for code, scripts in LANGUAGES.items() if scripts[0] == mine[0] and code in FUNCTION_WORDS]
    overall = True
    if rivals:
        found = _belongs(_votes(text, rivals), language)
        overall = found if found is not None else len(_WORD.findall(text)) < CLEAR_WORDS
    kana_in_text = whole["kana"] > 0
    good = 0
    for piece in stretches(text):
        counted = _scripts(piece)
        here = sum(counted[script] for script in mine)
        if not here:
            continue
        if rivals:
            leads = _belongs(_votes(piece, rivals), language)
            fits = overall if leads is None else leads
        elif language == "ja":
            fits = counted["kana"] > 0 or kana_in_text
        else:
            fits = language != "zh" or counted["kana"] == 0
        good += here if fits else 0
    main = whole.most_common(1)[0][0]
    share = good / letters
    return share, f"{share:.2f} of {letters} letters are {language}; most are {main}"


class LanguageReward(NamedReward):
    """The share of the letters that stand in the language, in [0, 1]; with `at_least` 1 from it on and 0 below."""

    pure = True

    def __init__(self, name: str, timeout_s: float, options: LanguageOptions) -> None:
        super().__init__(name, timeout_s)
        self.options = options

    def required_columns(self) -> tuple[str, ...]:
        """The column with the language, where each row has its own."""
        return () if self.options.column is None else (self.options.column,)

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        """Look at each completion."""
        language = self.options.language
        if language is None:
            assert self.options.column is not None
            found = reference_column(prompt, self.options.column)
            if isinstance(found, Verdict):
                return [found] * len(rollouts)
            if found not in LANGUAGES:
                note = f"row {prompt.id}: column {self.options.column!r} holds {found!r:.40}; expected one of "
                return [failed(note + ", ".join(LANGUAGES))] * len(rollouts)
            language = str(found)
        verdicts = []
        for rollout in rollouts:
            share, note = language_share(rollout.text, language)
            least = self.options.at_least
            verdicts.append(scored(share if least is None else float(share >= least), note))
        return verdicts
