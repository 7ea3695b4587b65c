"""The nouns of Charter, in the order they flow.

    GRPO        Prompt → Group(prompt, rollouts) → Scored(group, scores) → Batch → Update
    preference  Pair(prompt, a, b, p) → Batch → Update
    imitation   Example(messages) → Batch → Update
    chat        ChatRequest → ChatReply;  ChoiceRequest → ChoiceReply

Every type is frozen, keyword-only and complete when it is made: a stage that knows more makes a
new type rather than filling a field in later. Nothing here imports torch, so that recipes, data
and run folders can be read on a machine without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

Role = Literal["system", "user", "assistant", "tool"]
StopReason = Literal["eos", "length", "failed"]
"""Why a completion ended: an end-of-sequence id, the token limit, or a failure of the sampler."""

ScoreStatus = Literal["scored", "abstained", "failed"]


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the policy is asked.

    id: stable name of the prompt; with the seed, step and sample index it fixes every draw.
    messages: the conversation so far. A plain-text prompt is one message of role "text", which is
        tokenized as it stands, without a chat template.
    fields: the other columns of its row (the reference answer, say); rewards read them by name.
    """

    id: str
    messages: tuple[Message, ...]
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One completion, as it was drawn.

    tokens: completion ids, the closing end-of-sequence id included when stop is "eos".
    logprobs: log-probability of each token under the tempered distribution it was drawn from.
    text: the decoded completion, special tokens left out.
    version: number of optimizer updates the policy had seen when it drew this.
    """

    prompt_id: str
    index: int
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    stop: StopReason
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The completions of one prompt, in the order of their index.

    prompt_tokens: the ids the policy was conditioned on (empty when a remote sampler hides them).
    step: the training step it was sampled for, counted from 1; 0 outside training (an evaluation, a file of rows).
    """

    prompt: Prompt
    rollouts: tuple[Rollout, ...]
    prompt_tokens: tuple[int, ...] = ()
    step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A reward's answer for one completion.

    value: the reward, or None when the status is not "scored"; a failure is never a 0.
    parts: each named reward's own value, before cap, gate and weight (None where that one abstained or failed).
    counted: what each reward brought into the sum before its weight: capped, and 0 where its gate is closed; a
        reward that abstained is not in it. Empty where nothing was summed.
    failures: each reward that broke, with its cause. seconds: what each reward took for this completion.
        (Two scores are equal when value, parts, note and status are.)
    note: why, in words: the schema path that failed, the exception, the limit that was hit.
    """

    value: float | None
    parts: Mapping[str, float | None] = field(default_factory=dict[str, float | None])
    note: str = ""
    status: ScoreStatus = "scored"
    counted: Mapping[str, float] = field(default_factory=dict[str, float], compare=False)
    failures: Mapping[str, str] = field(default_factory=dict[str, str], compare=False)
    seconds: Mapping[str, float] = field(default_factory=dict[str, float], compare=False)

    def __post_init__(self) -> None:
        if (self.value is None) == (self.status == "scored"):
            raise ValueError(f"a score with status {self.status!r} cannot have the value {self.value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A group with one score per rollout, in the same order."""

    group: Group
    scores: tuple[Score, ...]

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.group.rollouts):
            raise ValueError(
                f"{len(self.scores)} scores for the {len(self.group.rollouts)} completions of {self.group.prompt.id}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A conversation to imitate: the loss falls on the assistant's turns alone."""

    id: str
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two answers to one prompt, and how sure it is that the first is the better one.

    a, b: the completions' texts. p: probability that a is better, 1 where it was chosen outright.
    """

    id: str
    prompt: Prompt
    a: str
    b: str
    p: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What is known of each token of a completion before a policy and its critic learn from it (PPO).

    old_logprobs, old_values: of the policy and the critic that are about to learn. advantages, returns: as
    `charter.objectives.value.gae` defines them, the advantages whitened.
    """

    old_logprobs: tuple[float, ...]
    old_values: tuple[float, ...]
    advantages: tuple[float, ...]
    returns: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One continuation in a batch.

    tokens: ids that follow the shared prefix.
    mask: which of them carry loss.
    advantage: weight of the policy-gradient term (unused by imitation).
    sampler_logprobs: log-probabilities under the sampler, or empty where there was none.
    reference_logprobs: log-probabilities under a reference that is not in memory any more, or empty.
    preferred: probability that this is the better of its tree's two branches (pairs alone).
    course: numbers of each token for PPO, which then stand in the place of `advantage`.
    """

    tokens: tuple[int, ...]
    mask: tuple[bool, ...]
    advantage: float = 0.0
    sampler_logprobs: tuple[float, ...] = ()
    reference_logprobs: tuple[float, ...] = ()
    preferred: float = 0.5
    course: Course | None = None

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.mask):
            raise ValueError(f"{len(self.tokens)} tokens with a mask of {len(self.mask)}")
        for given in (self.sampler_logprobs, self.reference_logprobs):
            if given and len(given) != len(self.tokens):
                raise ValueError(f"{len(self.tokens)} tokens with {len(given)} log-probabilities")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A prefix written once and the continuations that share it."""

    prefix: tuple[int, ...]
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What the step's one normaliser counts, over *everything* sampled and scored in the step.

    Trees that carry no gradient are left out of the batch but not out of these counts, so that not
    forwarding them changes nothing but the time.

    tokens: tokens with loss mask 1. sequences: completions with at least one of them.
    completions: all completions that have a reward. prompts: groups with at least one unmasked token.
    """

    tokens: int
    sequences: int
    completions: int
    prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one optimizer step learns from.

    whole: whether a tree must stay in one micro-batch, because its branches have a loss together (pairs).
    """

    trees: tuple[Tree, ...]
    totals: Totals
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One finished step.

    step: counted from 1. version: optimizer updates the policy has seen. metrics: name → value
    (see `charter.run.metrics` for each name's meaning). scored: what the step sampled, in prompt
    order; advantages: one row per group, None where a completion took no part.
    """

    step: int
    version: int
    metrics: Mapping[str, float]
    scored: tuple[Scored, ...] = ()
    advantages: tuple[tuple[float | None, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One reply, asked of a chat model.

    id: stands for everything that decides the reply (`charter.constitution.asking` makes it); a backend that draws
        with Charter's own generator keys the draws by it, so that the same request has the same reply.
    begin: text with which the reply is made to begin; it is not part of the reply's text.
    """

    id: str
    messages: tuple[Message, ...]
    max_new_tokens: int
    temperature: float = 1.0
    begin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReply:
    """What came of a ChatRequest of the same id.

    stop: "failed" where no reply could be had, however often it was tried: then `text` is empty, and `note` the cause.
    prompt_tokens, completion_tokens: as the backend counts them.
    """

    id: str
    text: str
    stop: StopReason
    note: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceRequest:
    """How likely a chat model would continue with each of several short texts ("A" and "B", say).

    begin: text of the reply that stands before the choice.
    """

    id: str
    messages: tuple[Message, ...]
    choices: tuple[str, ...]
    begin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceReply:
    """What came of a ChoiceRequest of the same id.

    logprobs: of each choice as the continuation, under the untempered distribution, in the order asked; -inf where a
        server that shows only its likeliest tokens does not show it. None where none could be had; `note` says why.
    """

    id: str
    logprobs: tuple[float, ...] | None
    note: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a chat model was asked and what it cost, since it was made.

    requests: answered (each once, however often it was tried). retries: tries that failed and were repeated.
    failures: requests given up. cost: in the currency of the prices that the recipe states, 0 without prices.
    seconds: wall time with at least one request in work.
    """

    requests: int = 0
    retries: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0
