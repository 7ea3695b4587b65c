"""A constitution as a reward: the checks that a program decides, and a judge that rates a reply alone.

    principles   weighted share of the checks that hold, 0 to 1; a reply about which no program can tell abstains
    judge        −1 to 1: the expected score of 1 to 10 (or the weighted checks), rescaled, under a principle

A judge that cannot be read, refuses or fails has failed on that completion: there is no 0 and no middle value for it.
Which model judges is decided where the recipe is put together (`charter.cli.reward_builders`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from charter.constitution.drawing import draw
from charter.constitution.feedback import rate, with_checks
from charter.constitution.judging import Reading, Refuses
from charter.constitution.principles import Constitution
from charter.constitution.questions import Decide
from charter.protocols import ChatModel
from charter.reward.runtime import NamedReward, Verdict, abstained, failed, scored
from charter.types import Message, Prompt, Rollout

if TYPE_CHECKING:
    from charter.constitution.principles import Principle


class Share(Protocol):
    """What a scorer returns. value: weighted share of the checks that hold, None where a program could decide none."""

    @property
    def value(self) -> float | None: ...


ScoreChecks = Callable[["Principle | Constitution", Sequence[Message], str], Share]
"""As `charter.constitution.checks.score_checks`."""


class PrinciplesOptions(BaseModel):
    """Options of `principles`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    constitution: str = Field(
        "helpful-harmless", min_length=1, description="A shipped constitution, or the path of a .toml file."
    )
    tags: tuple[str, ...] = Field((), description="Only principles with one of these tags; all when empty.")


class JudgeOptions(BaseModel):
    """Options of `judge`: who judges, and how it is asked. The reward's timeout_s is the longest wait for an answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    constitution: str = Field(
        "helpful-harmless", min_length=1, description="A shipped constitution, or the path of a .toml file."
    )
    tags: tuple[str, ...] = Field((), description="Only principles with one of these tags; all when empty.")
    ensemble: Literal["one", "all"] = Field(
        "one", description="Under one principle, drawn for each prompt, or the mean over all of them."
    )
    mode: Literal["score", "rubric"] = Field(
        "score", description="score: 1 to 10, the expectation where the model gives log-probabilities. rubric: checks."
    )
    backend: Literal["local", "openai", "scripted"] = Field(
        "local", description="local: in this process. openai: an OpenAI-compatible endpoint. scripted: for tests."
    )
    model: str = Field("", description="Model folder, asset or the endpoint's name for it.")
    url: str = Field("", description="Base URL of the endpoint, up to and including /v1.")
    key_env: str = Field("", description="Environment variable with the endpoint's key; none is sent when empty.")
    script: str = Field("", description="File of replies for backend = scripted (.jsonl).")
    max_new_tokens: int = Field(16, ge=1, description="Longest answer, where there are no log-probabilities.")
    concurrency: int = Field(8, ge=1, description="Requests under way at a time.")
    retries: int = Field(5, ge=0, description="Further tries on a passing failure of the endpoint.")
    budget_tokens: int | None = Field(None, ge=1, description="The judge fails once it would use more tokens.")


class PrinciplesReward(NamedReward):
    """Weighted share of a constitution's checks that hold, of those that a program decides."""

    pure = True

    def __init__(
        self, name: str, timeout_s: float, options: PrinciplesOptions, *, score: ScoreChecks | None = None
    ) -> None:
        super().__init__(name, timeout_s)
        self.constitution = Constitution.load(options.constitution).tagged(options.tags)
        self._score = score or _score_checks()

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        """One verdict per rollout."""
        return [self._one(prompt, rollout.text) for rollout in rollouts]

    def _one(self, prompt: Prompt, text: str) -> Verdict:
        began = time.perf_counter()
        share = self._score(self.constitution, prompt.messages, text).value
        told = abstained("no program can decide a check of this constitution here") if share is None else scored(share)
        return replace(told, seconds=time.perf_counter() - began)


class JudgeReward(NamedReward):
    """What a judge thinks of each completion alone, from −1 to 1.

    open: makes the judge; called once, when the reward is opened. seed: fixes which principle is drawn for a prompt,
    the same for all its completions. refuses, decide: of `charter.constitution.checks` where left out.
    """

    pure = True

    def __init__(
        self, name: str, timeout_s: float, options: JudgeOptions, open: Callable[[], ChatModel], *, seed: int = 0,
        refuses: Refuses | None = None, decide: Decide | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name, timeout_s)
        self.options = options
        constitution = Constitution.load(options.constitution).tagged(options.tags)
        self.constitution = with_checks(constitution) if options.mode == "rubric" else constitution
        self._open, self._seed = open, seed
        self._refuses, self._decide = refuses, decide
        self._model: ChatModel | None = None

    async def ready(self) -> None:
        """Open the judge. Raises: CharterError of a model or an endpoint that cannot be had."""
        if self._model is None:
            self._model = self._open()

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        """Ask about all completions of a prompt together."""
        await self.ready()
        assert self._model is not None
        began = time.perf_counter()
        principles = self.constitution.principles
        if self.options.ensemble == "one":
            principles = (draw(self.constitution, "uniform", self._seed, prompt.id, 1),)
        told = await rate(
            [(prompt.messages, rollout.text) for rollout in rollouts], self._model, principles, _Settings(self.options),
            refuses=self._refuses, decide=self._decide,
        )  # fmt: skip
        seconds = (time.perf_counter() - began) / max(len(rollouts), 1)
        return [replace(_verdict(one), seconds=seconds) for one in told]

    async def close(self) -> None:
        """Free the judge's connections."""
        model, self._model = self._model, None
        if model is not None:
            await model.close()


class _Settings:
    """A judge reward's options as `JudgeSettings`."""

    ensemble: Literal["one", "all"] = "one"
    clamp = (0.0, 1.0)
    temperature = 0.0

    def __init__(self, options: JudgeOptions) -> None:
        self.mode: Literal["score", "rubric"] = options.mode
        self.max_new_tokens = options.max_new_tokens


def _verdict(reading: Reading) -> Verdict:
    if reading.value is not None:
        return scored(reading.value, reading.raw)
    said = {"unparsed": "its answer cannot be read", "refused": "it refused", "error": "it could not be asked"}
    return failed(f"the judge gave no score, because {said[reading.status]}: {reading.raw}")


def _score_checks() -> ScoreChecks:
    from charter.constitution.checks import score_checks

    return score_checks
