"""`preference`: what a preference model, or a bag of words, thinks of a reply.

    value = s(prompt, reply)                     scale = "none", in logits
    value = (s(prompt, reply) − mean) / std      scale = "standard", over the replies it was measured on

The model stands beside the policy and never learns. Which model that is, and where it runs, is decided where the recipe
is put together (`charter.cli.reward_builders`): this room knows neither torch nor a model folder.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from charter.reward.bag_of_words import BagOfWords
from charter.reward.runtime import NamedReward, Verdict, failed, scored
from charter.types import Message, Prompt, Rollout


class Scorer(Protocol):
    """A frozen preference model. mean, std: of its scores on the replies it was measured on, in logits."""

    @property
    def mean(self) -> float: ...
    @property
    def std(self) -> float: ...

    def score_replies(self, messages: Sequence[Message], replies: Sequence[str]) -> Sequence[float | str]:
        """One score per reply to a prompt, in order; a text where a reply has none, with the cause."""
        ...


class WordsScorer:
    """A bag of words as a Scorer."""

    def __init__(self, words: BagOfWords) -> None:
        self.words = words
        self.mean, self.std = words.mean, words.std

    def score_replies(self, messages: Sequence[Message], replies: Sequence[str]) -> Sequence[float | str]:
        return [self.words.score(messages, reply) for reply in replies]


class PreferenceOptions(BaseModel):
    """Options of `preference`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(
        min_length=1,
        description="Folder of a preference model, of a run that trained one, or of a bag of words (or its .json).",
    )
    scale: Literal["none", "standard"] = Field(
        "standard",
        description="none: the score in logits. standard: less its mean and divided by its standard deviation over the "
        "replies the model was measured on, which its folder keeps.",
    )


class PreferenceReward(NamedReward):
    """A frozen preference model as a reward; a group is scored in one forward that shares its prompt.

    open: makes the scorer; called once, when the reward is opened. A forward is bounded by the longest conversation
    that the model takes, so `timeout_s` has nothing to cut.
    """

    pure = True
    maximum = None

    def __init__(self, name: str, timeout_s: float, options: PreferenceOptions, open: Callable[[], Scorer]) -> None:
        super().__init__(name, timeout_s)
        self.options = options
        self._open = open
        self._scorer: Scorer | None = None
        self._thread: ThreadPoolExecutor | None = None

    async def ready(self) -> None:
        """Load the model. Raises: CharterError of a folder that does not load, or scores without a spread."""
        if self._scorer is None:
            await self._apart(self._load)

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        """Score the completions of a prompt together."""
        await self.ready()
        began = time.perf_counter()
        found = await self._apart(lambda: self._score(prompt, rollouts))
        seconds = (time.perf_counter() - began) / max(len(rollouts), 1)
        return [replace(self._verdict(one), seconds=seconds) for one in found]

    def shut_down(self) -> None:
        """Let the model go."""
        self._scorer = None
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None

    def _load(self) -> None:
        if self._scorer is None:
            self._scorer = self._open()

    def _score(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[float | str]:
        assert self._scorer is not None
        return self._scorer.score_replies(prompt.messages, [rollout.text for rollout in rollouts])

    def _verdict(self, found: float | str) -> Verdict:
        if isinstance(found, str):
            return failed(found)
        if self.options.scale == "none":
            return scored(found)
        assert self._scorer is not None
        if not self._scorer.std > 0:
            return failed(
                f"all replies that {self.options.model} was measured on have one score (std {self._scorer.std:g}), so "
                'there is no common scale: use scale = "none", or train it on more pairs'
            )
        return scored((found - self._scorer.mean) / self._scorer.std, f"{found:.4g} logits")

    async def _apart(self, work: Callable[[], object]) -> Sequence[float | str]:
        """Do it in the one thread that touches the model, so that the event loop goes on."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="charter-preference")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)  # type: ignore[return-value]
