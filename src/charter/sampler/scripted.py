"""A sampler whose completions are written beforehand: for tests, documentation and offline demonstrations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from charter.model.chat import ChatFormat
from charter.protocols import SamplingSettings, Weights
from charter.types import Group, Prompt, Rollout

Script = Callable[[Prompt, int, int], str] | Sequence[str]
"""(prompt, sample index, step) → text; or a list, walked through by sample index and repeated."""


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
