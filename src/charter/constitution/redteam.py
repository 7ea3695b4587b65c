"""Prompts that tempt to do harm, and harmless ones: named by their content, without repeats, split.

    redteam = split_prompts(deduplicate(prompts).kept, count=128, held_out=64)

Reading files and assets belongs to the command line; writing further prompts is `write_prompts`.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from charter.constitution.asking import ask, chat_request
from charter.constitution.parsing import listed_prompts
from charter.constitution.prompts import writing_messages
from charter.constitution.records import record_id
from charter.constitution.similarity import jaccard, normalised, words
from charter.constitution.watching import SILENT, Watcher
from charter.errors import DataError, RunError
from charter.protocols import ChatModel
from charter.run.records import Journal
from charter.types import Message, Prompt

NEAR = 0.7
"""Jaccard similarity of the words from which two prompts ask the same thing."""

SEEDS, PER_REQUEST, ROUNDS = 5, 5, 4
"""Seeds shown to the author, prompts asked of it at a time, and how often it is asked again for those that lack."""

WRITTEN_TOKENS = 256
"""Longest list that the author writes at a time."""


class RedteamSettings(Protocol):
    """A recipe's [redteam] table, or anything with these attributes; docs/recipe.md says what each means."""

    @property
    def count(self) -> int: ...
    @property
    def held_out(self) -> int: ...
    @property
    def helpful_count(self) -> int: ...
    @property
    def helpful_replies(self) -> int: ...
    @property
    def max_new_tokens(self) -> int: ...
    @property
    def temperature(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """Prompts without repeats, in their order. dropped: how many repeated another."""

    kept: tuple[Prompt, ...]
    dropped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSplit:
    """Prompts to train on and prompts for evaluation; no two of them ask the same thing.

    near_held_out: prompts left out of training because they nearly repeat one that is held out. unused: prompts that
    nobody asked for. Both sides keep the order of the prompts.
    """

    train: tuple[Prompt, ...]
    held_out: tuple[Prompt, ...]
    near_held_out: int = 0
    unused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSets:
    """All prompts of a constitutional run.

    redteam, helpful: what tempts to do harm and what does not, each split. read: red-team prompts that were read.
    repeated: of them, those that repeat another. written: by the author, in `prompts` after those to train on.
    """

    redteam: PromptSplit
    helpful: PromptSplit
    read: int
    repeated: int = 0
    written: WrittenPrompts | None = None

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The red-team prompts to train on."""
        return (*self.redteam.train, *(self.written.prompts if self.written is not None else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenPrompts:
    """Prompts that the author wrote. off_format: lines that were none; near: those that nearly repeat another.
    asked: how many were wanted."""

    prompts: tuple[Prompt, ...]
    asked: int
    off_format: int = 0
    near: int = 0

    @property
    def dropped(self) -> Mapping[str, int]:
        """Reason → how many, those that occurred."""
        counts = {"off_format": self.off_format, "near_duplicate": self.near}
        return {reason: count for reason, count in counts.items() if count}


def make_prompt(messages: Sequence[Message], source: str, fields: Mapping[str, Any] | None = None) -> Prompt:
    """A prompt under the hash of what it says. source: where it came from. fields: its other columns."""
    return Prompt(
        id=record_id("prompt", {"messages": list(messages)}),
        messages=tuple(messages),
        fields={**(fields or {}), "source": source},
    )


def text_of(prompt: Prompt) -> str:
    """What all turns of a prompt say."""
    return "\n".join(message["content"] for message in prompt.messages)


def deduplicate(prompts: Sequence[Prompt]) -> Unique:
    """Keep the first of those prompts that differ in case, punctuation and spaces alone."""
    kept: dict[tuple[tuple[str, str], ...], Prompt] = {}
    for prompt in prompts:
        kept.setdefault(tuple((m["role"], normalised(m["content"])) for m in prompt.messages), prompt)
    return Unique(kept=tuple(kept.values()), dropped=len(prompts) - len(kept))


def split_prompts(
    prompts: Sequence[Prompt], *, count: int | None, held_out: int | None, source: str = ""
) -> PromptSplit:
    """Choose prompts for evaluation and for training by a hash of their content, whatever their order and the seed.

    In the order of the hashes the held-out ones are taken from the front and those to train on from the back, so that
    asking for more of one moves none of the other as long as there are enough.

    Args:
        count: to train on; all that remain when None. held_out: for evaluation; all that remain when None.

    Raises:
        DataError: holding out leaves none to train on where some are wanted.
    """
    ordered = sorted(prompts, key=_digest)
    if held_out is not None and held_out >= len(ordered) and count != 0:
        raise DataError(
            f"{source or 'the prompts'}: there are {len(ordered)}, and holding out {held_out} leaves none to train on. "
            "Hold out fewer (redteam.held_out=…) or add prompts"
        )
    wanted = len(ordered) - (held_out or 0) if count is None else count
    front = held_out if held_out is not None else max(0, len(ordered) - wanted)
    apart, rest = ordered[:front], ordered[front:]
    known = [set(words(text_of(prompt))) for prompt in apart]
    distinct = [prompt for prompt in rest if not _near(set(words(text_of(prompt))), known)]
    chosen = distinct[max(0, len(distinct) - wanted) :]
    train_ids, apart_ids = {prompt.id for prompt in chosen}, {prompt.id for prompt in apart}
    return PromptSplit(
        train=tuple(prompt for prompt in prompts if prompt.id in train_ids),
        held_out=tuple(prompt for prompt in prompts if prompt.id in apart_ids),
        near_held_out=len(rest) - len(distinct),
        unused=len(distinct) - len(chosen),
    )


def prompt_sets(
    redteam: Sequence[Prompt], helpful: Sequence[Prompt], settings: RedteamSettings, *, source: str = ""
) -> PromptSets:
    """Remove repeats and split. Of the helpful prompts all that are not trained on are for evaluation.

    source: what messages call the red-team prompts. Raises: DataError as `split_prompts`.
    """
    unique = deduplicate(redteam)
    return PromptSets(
        redteam=split_prompts(unique.kept, count=settings.count, held_out=settings.held_out, source=source),
        helpful=split_prompts(deduplicate(helpful).kept, count=settings.helpful_count, held_out=None),
        read=len(redteam),
        repeated=unique.dropped,
    )


async def write_prompts(
    author: ChatModel,
    seeds: Sequence[Prompt],
    known: Sequence[Prompt],
    count: int,
    journal: Journal,
    *,
    seed: int,
    temperature: float = 1.0,
    watcher: Watcher = SILENT,
) -> WrittenPrompts:
    """Let a model write `count` further prompts after few-shot seeds.

    Each request shows it SEEDS of the seeds, drawn by hash, and asks for PER_REQUEST more. Lines that are no prompt,
    and prompts that nearly repeat one that is known or written already, are counted and left out; for what then lacks
    the author is asked again, at most ROUNDS times.

    Args:
        seeds: of which some are shown; prompts that are held out do not belong among them. known: prompts that a
            written one must not repeat, the held-out ones included. seed: of the run.

    Raises:
        DataError: there is no seed. BudgetError: as `ask`. RunError: a request failed: what is written depends on
            every reply before it, so nothing is guessed; the next run asks that one again and no other.
    """
    if not seeds and count:
        raise DataError("there is no red-team prompt after which others could be written. Give redteam.prompts some")
    sets = [set(words(text_of(prompt))) for prompt in known]
    found: list[Prompt] = []
    off_format = near = 0
    for round_number in range(ROUNDS):
        lacking = count - len(found)
        if lacking <= 0:
            break
        requests = [
            chat_request(
                author.name, writing_messages(_some(seeds, seed, round_number, number), PER_REQUEST),
                max_new_tokens=WRITTEN_TOKENS, temperature=temperature, salt=f"{seed}/write/{round_number}/{number}",
            )
            for number in range(-(-lacking // PER_REQUEST))
        ]  # fmt: skip
        watcher.begin(f"write {round_number + 1}", len(requests))
        replies = await ask(author, requests, journal, watcher.answered)
        failed = [reply for request in requests if (reply := replies[request.id]).stop == "failed"]
        if failed:
            raise RunError(
                f"{len(failed)} of {len(requests)} requests for further red-team prompts had no answer "
                f"({failed[0].note}). What was answered is kept: run the same command again"
            )
        for request in requests:
            reply = replies[request.id]
            listed = listed_prompts(reply.text, cut=reply.stop == "length")
            off_format += listed.off_format
            for text in listed.prompts:
                told = set(words(text))
                if _near(told, sets):
                    near += 1
                elif len(found) < count:
                    sets.append(told)
                    found.append(make_prompt([Message(role="user", content=text)], "written"))
        watcher.end({"prompts": len(found), "off_format": off_format, "near": near})
    return WrittenPrompts(prompts=tuple(found), asked=count, off_format=off_format, near=near)


def _some(seeds: Sequence[Prompt], seed: int, round_number: int, number: int) -> list[str]:
    rng = random.Random(f"{seed}/seeds/{round_number}/{number}")
    return [prompt.messages[-1]["content"] for prompt in rng.sample(list(seeds), min(SEEDS, len(seeds)))]


def _near(told: set[str], known: Sequence[set[str]]) -> bool:
    return any(jaccard(told, other) >= NEAR for other in known)


def _digest(prompt: Prompt) -> str:
    said = json.dumps(list(prompt.messages), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
