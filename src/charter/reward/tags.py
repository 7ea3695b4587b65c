"""Rewards on tags: `format` (the whole completion is tags, as DeepSeek-R1 asks) and `xml_tags` (tags within a text).

A tag is its name between angle brackets, without attributes and with its exact case: `<answer>`, `</answer>`. Both
search for those marks alone, a few passes over the text, so they need no worker.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, field_validator

from charter.reward.runtime import NamedReward, Verdict, scored
from charter.types import Prompt, Rollout


def _names(tags: list[str]) -> list[str]:
    for tag in tags:
        if not re.fullmatch(r"[\w.-]+", tag):
            raise ValueError(f"{tag!r} is not a tag's name; write it without < and >")
    if len(set(tags)) != len(tags):
        raise ValueError("a tag is named twice")
    return tags


class FormatOptions(BaseModel):
    """Options of `format`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tags: list[str] = Field(["think", "answer"], min_length=1, description="Tags, in the order they must come.")
    opened: bool = Field(False, description="The prompt already ends with the first opening tag.")
    filled: bool = Field(False, description="Something other than white space must stand in each tag.")

    _check = field_validator("tags")(_names)


class XmlTagsOptions(BaseModel):
    """Options of `xml_tags`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tags: list[str] = Field(min_length=1, max_length=64, description="Tags that must be there, side by side.")
    ordered: bool = Field(True, description="Whether they must come in the order given.")
    alone: bool = Field(False, description="Whether only white space may stand outside them.")
    filled: bool = Field(False, description="Something other than white space must stand in each tag.")
    partial: bool = Field(False, description="Credit for part: tags in place / tags, 1 only when nothing is wrong.")

    _check = field_validator("tags")(_names)


def tag_fault(text: str, tag: str) -> str:
    """What keeps one tag from being there exactly once, opened before it is closed; "" if nothing."""
    for mark in (f"<{tag}>", f"</{tag}>"):
        count = text.count(mark)
        if count == 0:
            return f"{mark} is missing"
        if count > 1:
            return f"{mark} appears {count} times"
    if text.index(f"</{tag}>") < text.index(f"<{tag}>"):
        return f"</{tag}> comes before <{tag}>"
    return ""


def format_fault(text: str, tags: Sequence[str], *, filled: bool = False) -> str:
    """What keeps a text from being `<a>…</a><b>…</b>`, each tag once, in order, only space outside; "" if nothing."""
    marks = [mark for tag in tags for mark in (f"<{tag}>", f"</{tag}>")]
    for mark in marks:
        count = text.count(mark)
        if count == 0:
            return f"{mark} is missing"
        if count > 1:
            return f"{mark} appears {count} times"
    places = [text.index(mark) for mark in marks]
    for i in range(1, len(places)):
        if places[i] < places[i - 1]:
            return f"{marks[i]} comes before {marks[i - 1]}"
    edges = [0, *(place + len(mark) for place, mark in zip(places, marks, strict=True))]
    for i in range(0, len(marks), 2):  # the text before each opening tag lies outside
        if text[edges[i] : places[i]].strip():
            return f"there is text before {marks[i]}"
        if filled and not text[edges[i + 1] : places[i + 1]].strip():
            return f"{marks[i]} is empty"
    if text[edges[-1] :].strip():
        return f"there is text after {marks[-1]}"
    return ""


def _span(text: str, tag: str) -> tuple[int, int]:
    return text.index(f"<{tag}>"), text.index(f"</{tag}>") + len(f"</{tag}>")


def _longest_row(spans: Sequence[tuple[int, int]]) -> list[int]:
    """Which spans make the longest row: taken in the order given, each beginning where the one before has ended."""
    best: list[list[int]] = []
    for i, (start, _) in enumerate(spans):
        before = [row for row in best if spans[row[-1]][1] <= start]
        best.append([*max(before, key=len, default=[]), i])
    return max(best, key=len, default=[])


def tags_in_place(text: str, options: XmlTagsOptions) -> tuple[int, str]:
    """How many of the tags are in place, and the first fault ("" if there is none).

    A tag is in place when it is there exactly once, properly closed, filled if it must be, and stands in the longest
    row of such tags that do not overlap and keep their order (if order matters).
    """
    faults: dict[str, str] = {}
    for tag in options.tags:
        fault = tag_fault(text, tag)
        if not fault and options.filled:
            inside = text[text.index(f"<{tag}>") + len(f"<{tag}>") : text.index(f"</{tag}>")]
            fault = "" if inside.strip() else f"<{tag}> is empty"
        faults[tag] = fault
    sound = [tag for tag in options.tags if not faults[tag]]
    spans = {tag: _span(text, tag) for tag in sound}
    row = sound if options.ordered else sorted(sound, key=lambda tag: spans[tag])
    placed = {row[i] for i in _longest_row([spans[tag] for tag in row])}
    first = next((fault for fault in faults.values() if fault), "")
    stray = [tag for tag in row if tag not in placed]
    if not first and stray:
        first = f"<{stray[0]}> overlaps another tag" + (" or is out of order" if options.ordered else "")
    if not first and options.alone:
        ends = [0, *(end for _, end in sorted(spans.values()))]
        starts = [*(start for start, _ in sorted(spans.values())), len(text)]
        if any(text[end:start].strip() for end, start in zip(ends, starts, strict=True)):
            first = "there is text outside the tags"
    return len(placed), first


class FormatReward(NamedReward):
    """1 when the completion has the tags strictly, else 0; the note says what is wrong."""

    def __init__(self, name: str, timeout_s: float, options: FormatOptions) -> None:
        super().__init__(name, timeout_s)
        self.options = options

    def reference(self, prompt: Prompt) -> str | None:
        """The form with an ellipsis for content."""
        del prompt
        whole = "".join(f"<{tag}>…</{tag}>" for tag in self.options.tags)
        return whole.removeprefix(f"<{self.options.tags[0]}>") if self.options.opened else whole

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        """Look at each completion."""
        opening = f"<{self.options.tags[0]}>" if self.options.opened else ""
        faults = [format_fault(opening + r.text, self.options.tags, filled=self.options.filled) for r in rollouts]
        return [scored(0.0 if fault else 1.0, fault) for fault in faults]


class XmlTagsReward(NamedReward):
    """1 when every tag is there once, closed and in order, else 0 or, with `partial`, a share below 1.

    With `partial`: tags in place / tags; one half when all are in place but `alone` forbids what stands outside.
    """

    def __init__(self, name: str, timeout_s: float, options: XmlTagsOptions) -> None:
        super().__init__(name, timeout_s)
        self.options = options

    def reference(self, prompt: Prompt) -> str | None:
        """The tags with an ellipsis for content."""
        del prompt
        return "".join(f"<{tag}>…</{tag}>" for tag in self.options.tags)

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        """Look at each completion."""
        return [self._one(rollout.text) for rollout in rollouts]

    def _one(self, text: str) -> Verdict:
        placed, fault = tags_in_place(text, self.options)
        if not fault:
            return scored(1.0)
        if not self.options.partial:
            return scored(0.0, fault)
        share = placed / len(self.options.tags)
        return scored(share if share < 1 else 0.5, fault)
