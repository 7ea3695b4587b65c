"""A sampler and a chat model whose answers are written beforehand: for tests, documentation and offline demos."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

from charter.errors import BudgetError, UsageError
from charter.model.chat import ChatFormat
from charter.protocols import SamplingSettings, Weights
from charter.sampler.metering import Meter
from charter.sampler.scripted_rows import ScriptRow, read_script, substring_rows
from charter.types import ChatReply, ChatRequest, ChoiceReply, ChoiceRequest, Group, Prompt, Rollout, Usage

Script = Callable[[Prompt, int, int], str] | Sequence[str]
"""(prompt, sample index, step) → text; or a list, walked through by sample index and repeated."""

ChatScript = Callable[[ChatRequest], str | None] | Mapping[str, str | Sequence[str]] | Sequence[str] | Path
"""How a scripted chat model finds a reply. A function: request → text, or None for a failure. A table: text in the last
message → reply (the first that fits). A list: walked through in the order of asking and repeated; a request that comes
again has the reply it had. A path: a .jsonl file (see `charter.sampler.scripted_rows`)."""

ChoiceScript = Callable[[ChoiceRequest], Mapping[str, float] | Sequence[float] | None] | Mapping[str, float]
"""How it finds log-probabilities. A function: request → one per choice, a table of choice → log-probability, or None
for a failure; or one table for every request. A choice that a table does not name has -inf."""


class ScriptedSampler:
    """Answers from a list or a function.

    With a `ChatFormat` the texts are tokenized (closed by an end id) and can be learned from; without one each
    character stands for one token, enough to measure lengths. Log-probabilities are 0: what is scripted is certain.
    """

    def __init__(self, script: Script, chat: ChatFormat | None = None) -> None:
        self._script = script
        self._chat = chat
        self._version = 0

    async def load(self, weights: Weights) -> None:
        """Take note of the version; a script does not change with it."""
        self._version = weights.version

    async def sample(
        self, prompts: Sequence[Prompt], settings: SamplingSettings, step: int, *, stream: str = "train"
    ) -> AsyncIterator[Group]:
        """Yield the groups in the order of the prompts."""
        for prompt in prompts:
            yield Group(
                prompt=prompt,
                prompt_tokens=self._chat.encode_prompt(prompt.messages) if self._chat else (),
                rollouts=tuple(self._rollout(prompt, i, step, settings) for i in range(settings.group_size)),
                step=step if stream == "train" else 0,
            )

    def _rollout(self, prompt: Prompt, index: int, step: int, settings: SamplingSettings) -> Rollout:
        text = self._script(prompt, index, step) if callable(self._script) else self._script[index % len(self._script)]
        if self._chat is None:
            tokens = [ord(c) for c in text]
            closed = [*tokens, 0]
        else:
            tokens = list(self._chat.tokenizer(text, add_special_tokens=False)["input_ids"])
            closed = [*tokens, self._chat.closing_id]
        cut = len(closed) > settings.max_new_tokens
        kept = tokens[: settings.max_new_tokens] if cut else closed
        if cut:
            text = self._chat.decode(kept) if self._chat else text[: settings.max_new_tokens]
        return Rollout(
            prompt_id=prompt.id,
            index=index,
            tokens=tuple(kept),
            logprobs=(0.0,) * len(kept),
            text=text,
            stop="length" if cut else "eos",
            version=self._version,
        )


class ScriptedChat:
    """A ChatModel that answers from a script.

    script: replies. choices: log-probabilities; None: the file's, or no such capability.
    fails: request → the cause of its failure, "" where it does not fail.
    most: requests after which the budget is spent (BudgetError), as a real model's would be; None: no end.
    name: what records remember it by; from the script when left out, so a function should be named.

    A word counts as a token: a reply of more than max_new_tokens words is cut there and has stop "length".
    """

    def __init__(
        self,
        script: ChatScript,
        choices: ChoiceScript | None = None,
        *,
        name: str = "",
        fails: Callable[[ChatRequest | ChoiceRequest], str] | None = None,
        most: int | None = None,
    ) -> None:
        self._rows: tuple[ScriptRow, ...] = ()
        self._list: tuple[str, ...] = ()
        self._function: Callable[[ChatRequest], str | None] | None = None
        if isinstance(script, str):
            raise TypeError("a text is no script; give a list of texts, a table, a function or a Path")
        if isinstance(script, Path):
            self._rows = read_script(script)
        elif isinstance(script, Mapping):
            self._rows = substring_rows(script)
        elif callable(script):
            self._function = script
        else:
            self._list = tuple(script)
            if not self._list:
                raise ValueError("a script needs at least one reply")
        self._choices = choices
        self._fails = fails
        self._most = most
        self._turns: dict[str, int] = {}
        self._meter = Meter()
        self._name = name or f"scripted:{_named(script, choices)}"

    @property
    def name(self) -> str:
        """The name it was given, or a digest of its script."""
        return self._name

    @property
    def capabilities(self) -> frozenset[str]:
        """All of them; "choice_logprobs" only with a script for choices."""
        can_choose = self._choices is not None or any(row.choices is not None for row in self._rows)
        return frozenset({"generate", "begin", *(["choice_logprobs"] if can_choose else [])})

    @property
    def usage(self) -> Usage:
        """What was asked so far."""
        return self._meter.usage

    async def generate(self, requests: Sequence[ChatRequest]) -> AsyncIterator[ChatReply]:
        """Yield the replies in the order of the requests. Raises: BudgetError after `most` requests."""
        for request in requests:
            self._spend()
            with self._meter.working():
                reply = self._reply(request)
            yield reply

    async def choice_logprobs(self, requests: Sequence[ChoiceRequest]) -> AsyncIterator[ChoiceReply]:
        """Yield the answers in the order of the requests. Raises: UsageError without a script for choices."""
        if requests and "choice_logprobs" not in self.capabilities:
            raise UsageError(f"{self.name} has no script for choices; give it rows with the key choices")
        for request in requests:
            self._spend()
            with self._meter.working():
                answer = self._answer(request)
            yield answer

    async def close(self) -> None:
        """Nothing is held open."""

    def _spend(self) -> None:
        if self._most is not None and self._meter.usage.requests >= self._most:
            raise BudgetError(f"the script's budget of {self._most} requests is spent; what was answered is kept")

    def _reply(self, request: ChatRequest) -> ChatReply:
        text, cause = self._find(request)
        if text is None:
            self._meter.failed()
            return ChatReply(id=request.id, text="", stop="failed", note=cause)
        words = list(re.finditer(r"\S+", text))
        cut = len(words) > request.max_new_tokens
        if cut:
            words = words[: request.max_new_tokens]
            text = text[: words[-1].end()] if words else ""
        prompt_tokens = _words(request)
        self._meter.answered(prompt_tokens, len(words))
        return ChatReply(
            id=request.id, text=text, stop="length" if cut else "eos",
            prompt_tokens=prompt_tokens, completion_tokens=len(words),
        )  # fmt: skip

    def _find(self, request: ChatRequest) -> tuple[str | None, str]:
        """(the reply, "") or (None, why there is none)."""
        if self._fails is not None and (cause := self._fails(request)):
            return None, cause
        if self._function is not None:
            return self._function(request), "the script has no reply"
        if self._list:
            return self._list[self._turns.setdefault(request.id, len(self._turns)) % len(self._list)], ""
        row = next((row for row in self._rows if row.fits(request)), None)
        if row is None:
            return None, f"no row of the script fits {request.messages[-1]['content'][:60]!r}"
        return (None, row.fail) if row.fail else (row.reply(request.id), "")

    def _answer(self, request: ChoiceRequest) -> ChoiceReply:
        told, cause = self._weigh(request)
        if told is None:
            self._meter.failed()
            return ChoiceReply(id=request.id, logprobs=None, note=cause)
        if isinstance(told, Mapping):
            told = [told.get(choice, float("-inf")) for choice in request.choices]
        if len(told) != len(request.choices):
            raise ValueError(f"the script gave {len(told)} log-probabilities for the choices {request.choices}")
        self._meter.answered(_words(request), 0)
        return ChoiceReply(id=request.id, logprobs=tuple(map(float, told)), prompt_tokens=_words(request))

    def _weigh(self, request: ChoiceRequest) -> tuple[Mapping[str, float] | Sequence[float] | None, str]:
        if self._fails is not None and (cause := self._fails(request)):
            return None, cause
        if self._choices is not None:
            told = self._choices(request) if callable(self._choices) else self._choices
            return told, "the script has no log-probabilities"
        row = next((row for row in self._rows if row.fits(request)), None)
        if row is None:
            return None, f"no row of the script fits {request.messages[-1]['content'][:60]!r}"
        return (None, row.fail) if row.fail else (row.choices, "")


def _words(request: ChatRequest | ChoiceRequest) -> int:
    return sum(len(message["content"].split()) for message in request.messages)


def _named(script: ChatScript, choices: ChoiceScript | None) -> str:
    """A digest of what the script says; a function stands in it by its name."""
    parts: list[object] = []
    for part in (script, choices):
        if isinstance(part, Path):
            parts.append(hashlib.blake2b(part.read_bytes(), digest_size=8).hexdigest())
        elif callable(part):
            parts.append(getattr(part, "__qualname__", type(part).__qualname__))
        elif isinstance(part, Mapping):
            parts.append(dict(part))
        else:
            parts.append(part if part is None else list(part))
    text = json.dumps(parts, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
