"""Messages ⇄ tokens, and who wrote each token.

A conversation is tokenized in pieces cut where the assistant starts and stops writing, so that a
prompt has the same ids in sampling and in learning, and a completion is never merged into the prompt
by the tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charter.errors import ModelError
from charter.types import Message

PLAIN_TEXT = "text"
"""Role of a message that is text to continue, not a turn of a conversation."""


class ChatFormat:
    """A tokenizer with its chat template and the ids that end a completion."""

    def __init__(self, tokenizer: Any, declared_eos: Sequence[int] = (), *, source: str = "the model") -> None:
        self.tokenizer = tokenizer
        self._source = source
        self.eos_ids: frozenset[int] = frozenset(declared_eos) | self._tokenizer_eos() | self._template_eos()
        if not self.eos_ids:
            raise ModelError(
                f"{source} declares no end-of-sequence token: set eos_token_id in generation_config.json "
                "or eos_token in tokenizer_config.json"
            )

    @property
    def has_template(self) -> bool:
        return getattr(self.tokenizer, "chat_template", None) is not None

    def encode_prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Ids of the conversation up to where the assistant starts to write.

        Raises ModelError for a conversation when the tokenizer has no chat template.
        """
        if self._is_plain(messages):
            return tuple(self.tokenizer(messages[0]["content"], add_special_tokens=True)["input_ids"])
        return self._ids(self._render(messages, open_turn=True))

    def encode_example(self, messages: Sequence[Message]) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Ids of a whole conversation, and for each whether the assistant wrote it.

        The end-of-turn token counts as written by the assistant; template text after it does not.
        A plain-text prompt followed by an assistant turn is continued text, closed by an end id.
        """
        if messages and messages[0]["role"] == PLAIN_TEXT:
            prompt = self.encode_prompt(messages[:1])
            reply = self.tokenizer(messages[1]["content"], add_special_tokens=False)["input_ids"]
            reply = [*reply, self.closing_id]
            return (*prompt, *reply), (False,) * len(prompt) + (True,) * len(reply)
        tokens: list[int] = []
        written: list[bool] = []
        done = ""
        for turn, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            opened = self._render(messages[:turn], open_turn=True)
            closed = self._render(messages[: turn + 1], open_turn=False)
            if not (opened.startswith(done) and closed.startswith(opened)):
                raise ModelError(
                    f"the chat template of {self._source} rewrites earlier turns, so it cannot be told which tokens "
                    "the assistant wrote; train on single-turn examples or use a template that only appends"
                )
            given, reply = self._ids(opened[len(done) :]), self._ids(closed[len(opened) :])
            last = max((i for i, token in enumerate(reply) if token in self.eos_ids), default=len(reply) - 1)
            tokens += [*given, *reply]
            written += [False] * len(given) + [i <= last for i in range(len(reply))]
            done = closed
        return tuple(tokens), tuple(written)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of a completion, without special tokens."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True)

    @property
    def closing_id(self) -> int:
        """The id that closes a plain-text completion."""
        declared = self.tokenizer.eos_token_id
        return int(declared) if declared is not None else min(self.eos_ids)

    @staticmethod
    def _is_plain(messages: Sequence[Message]) -> bool:
        return len(messages) == 1 and messages[0]["role"] == PLAIN_TEXT

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()

    def _render(self, messages: Sequence[Message], *, open_turn: bool) -> str:
        if not self.has_template:
            raise ModelError(
                f"the tokenizer of {self._source} has no chat template, and a prompt is a conversation: give prompts "
                'as plain text ({"prompt": "…"} without a template or system message), or add a chat_template'
            )
        try:
            return self.tokenizer.apply_chat_template(
                [dict(m) for m in messages], tokenize=False, add_generation_prompt=open_turn
            )
        except Exception as error:
            if type(error).__module__.startswith("jinja2"):
                raise ModelError(f"the chat template of {self._source} refused a conversation: {error}") from error
            raise

    def _tokenizer_eos(self) -> frozenset[int]:
        declared = self.tokenizer.eos_token_id
        return frozenset() if declared is None else frozenset({int(declared)})

    def _template_eos(self) -> frozenset[int]:
        """The special token with which the template closes an assistant turn, if it does."""
        if not self.has_template:
            return frozenset()
        asked: list[Message] = [{"role": "user", "content": "a"}]
        try:
            opened = self._render(asked, open_turn=True)
            closed = self._render([*asked, {"role": "assistant", "content": "b"}], open_turn=False)
        except ModelError:
            return frozenset()
        if not closed.startswith(opened):
            return frozenset()
        special = {*self.tokenizer.all_special_ids, *getattr(self.tokenizer, "added_tokens_decoder", ())}
        for token in self._ids(closed[len(opened) :]):
            if token in special:
                return frozenset({token})
        return frozenset()
