"""The seams of Charter: what a trainer may ask of the parts it is given.

A trainer receives a Sampler, a Reward and a Learner and cannot name an implementation of any.
`tests/contract/` holds one suite per seam and runs it on every implementation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from charter.types import (
    Batch,
    ChatReply,
    ChatRequest,
    ChoiceReply,
    ChoiceRequest,
    Example,
    Group,
    Pair,
    Prompt,
    Score,
    Tree,
    Usage,
)


@runtime_checkable
class SamplingSettings(Protocol):
    """The numbers a sampler needs; a recipe's [sampling] table has them."""

    @property
    def group_size(self) -> int: ...
    @property
    def max_new_tokens(self) -> int: ...
    @property
    def temperature(self) -> float: ...
    @property
    def top_p(self) -> float: ...
    @property
    def top_k(self) -> int: ...


@runtime_checkable
class Weights(Protocol):
    """A handle on the policy's parameters at one version. In one process it shares their memory."""

    @property
    def version(self) -> int: ...


@runtime_checkable
class Sampler(Protocol):
    """Completions out of a policy."""

    def sample(
        self, prompts: Sequence[Prompt], settings: SamplingSettings, step: int, *, stream: str = "train"
    ) -> AsyncIterator[Group]:
        """Yield one Group per prompt as it finishes, in any order.

        The tokens are a pure function of (weights, seed, stream, step, prompt id, sample index, position).
        """
        ...

    async def load(self, weights: Weights) -> None:
        """Draw from these weights from now on."""
        ...


@runtime_checkable
class Reward(Protocol):
    """A score for a completion."""

    name: str

    async def score(self, group: Group) -> Sequence[Score]:
        """One Score per rollout, in order. Failures are Scores of status "failed", not exceptions."""
        ...

    async def close(self) -> None:
        """Free child processes and connections; the object is not used afterwards."""
        ...


@runtime_checkable
class Learner(Protocol):
    """Where weights live and learn."""

    @property
    def version(self) -> int:
        """Number of optimizer updates the weights have seen."""
        ...

    def step(self, batch: Batch, objective: Any) -> Mapping[str, float]:
        """Learn from one batch; return metrics. A step whose gradient is not finite changes nothing and
        reports `skipped = 1`."""
        ...

    def reference_logprobs(self, trees: Sequence[Tree], temperature: float) -> Sequence[Sequence[Sequence[float]]]:
        """Log-probabilities of every branch's tokens under the frozen reference, per tree, without gradient."""
        ...

    def weights(self) -> Weights:
        """A handle for `Sampler.load`."""
        ...


@runtime_checkable
class PromptSource(Protocol):
    """An endless, resumable order of prompts."""

    def steps(self, prompts_per_step: int, *, start: int = 1) -> Iterator[tuple[int, tuple[Prompt, ...]]]:
        """Yield (step, prompts) for step = start, start + 1, …; a pure function of data, seed and step."""
        ...

    def refill(self, step: int, round: int, count: int) -> tuple[Prompt, ...]:
        """Fresh prompts for a step that lacks signal; a pure function of data, seed, step and round."""
        ...


@runtime_checkable
class ExampleSource(Protocol):
    """An endless, resumable order of examples."""

    def steps(self, examples_per_step: int, *, start: int = 1) -> Iterator[tuple[int, tuple[Example, ...]]]:
        """Yield (step, examples) for step = start, start + 1, …; a pure function of data, seed and step."""
        ...


@runtime_checkable
class PairSource(Protocol):
    """An endless, resumable order of pairs."""

    def steps(self, pairs_per_step: int, *, start: int = 1) -> Iterator[tuple[int, tuple[Pair, ...]]]:
        """Yield (step, pairs) for step = start, start + 1, …; a pure function of data, seed and step."""
        ...


@runtime_checkable
class CriticLearner(Learner, Protocol):
    """A learner that holds a critic beside the policy."""

    def assess(
        self, trees: Sequence[Tree], temperature: float
    ) -> tuple[Sequence[Sequence[Sequence[float]]], Sequence[Sequence[Sequence[float]]]]:
        """(log-probabilities, values) of every branch's tokens as policy and critic are now, per tree."""
        ...

    def learn(self, batches: Sequence[Batch], objective: Any) -> Mapping[str, float]:
        """One step of several updates, each on a batch of its own; return metrics, as `step` does."""
        ...


@runtime_checkable
class ChatModel(Protocol):
    """A model that is talked to: in this process, behind an HTTP endpoint, or scripted."""

    @property
    def name(self) -> str:
        """What records remember it by: model, weights and place. Two models of one name would give the same replies."""
        ...

    @property
    def capabilities(self) -> frozenset[str]:
        """Of "generate", "choice_logprobs" and "begin" (a reply's beginning can be given)."""
        ...

    @property
    def usage(self) -> Usage:
        """What was asked so far."""
        ...

    def generate(self, requests: Sequence[ChatRequest]) -> AsyncIterator[ChatReply]:
        """Yield one reply per request as it is there, in any order.

        A request that cannot be answered yields a reply of stop "failed"; it never raises for one alone.
        Raises BudgetError before a request that the budget does not allow; what is under way is yielded first.
        """
        ...

    def choice_logprobs(self, requests: Sequence[ChoiceRequest]) -> AsyncIterator[ChoiceReply]:
        """Yield one answer per request, as `generate` does. Raises UsageError without that capability."""
        ...

    async def close(self) -> None:
        """Free connections; the object is not used afterwards."""
        ...
