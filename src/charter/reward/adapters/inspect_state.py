"""The sample an Inspect scorer looks at: Inspect's own TaskState where inspect-ai is installed, else a stand-in.

The stand-in has what a scorer that imports nothing of Inspect can use: `state.output.completion`, `state.input_text`,
`state.input`, `state.messages`, `state.metadata`, `state.user_prompt`, `state.sample_id`; `target.text`, `target[i]`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

MODEL = "charter/policy"
"""What a state gives as its model's name."""


class Target(Sequence[str]):
    """One or more reference texts, as Inspect's Target."""

    def __init__(self, target: str | Sequence[str]) -> None:
        self.target = [target] if isinstance(target, str) else list(target)

    def __getitem__(self, index: Any) -> Any:
        return self.target[index]

    def __len__(self) -> int:
        return len(self.target)

    @property
    def text(self) -> str:
        """All of them, one after the other."""
        return "".join(self.target)


def _texts(target: Any) -> list[str]:
    if isinstance(target, list | tuple):
        return [str(one) for one in target]
    return [str(target)]


def _stand_in(messages: Sequence[Mapping[str, str]], text: str, target: Any, metadata: dict[str, Any]) -> Any:
    turns = [SimpleNamespace(role=m["role"], content=m["content"], text=m["content"]) for m in messages]
    for turn in turns:
        turn.role = "user" if turn.role == "text" else turn.role
    users = [turn for turn in turns if turn.role == "user"]
    answer = SimpleNamespace(role="assistant", content=text, text=text)
    plain = len(messages) == 1 and messages[0]["role"] == "text"
    return SimpleNamespace(
        model=MODEL, sample_id=0, epoch=1, input=messages[0]["content"] if plain else turns,
        input_text=users[-1].text if users else "", user_prompt=users[-1] if users else None,
        messages=[*turns, answer], output=SimpleNamespace(model=MODEL, completion=text, message=answer),
        target=Target(target), metadata=metadata, completed=True, choices=[],
    )  # fmt: skip


def _real(
    messages: Sequence[Mapping[str, str]], text: str, target: list[str], metadata: dict[str, Any], choices: Any
) -> tuple[Any, Any]:
    # an optional package
    from inspect_ai.model import (  # pyright: ignore[reportMissingImports]
        ChatMessageAssistant,
        ChatMessageSystem,
        ChatMessageTool,
        ChatMessageUser,
        ModelName,
        ModelOutput,
    )
    from inspect_ai.scorer import Target as RealTarget  # pyright: ignore[reportMissingImports]
    from inspect_ai.solver import TaskState  # pyright: ignore[reportMissingImports]

    kinds: Mapping[str, Any] = {
        "system": ChatMessageSystem,
        "assistant": ChatMessageAssistant,
        "tool": ChatMessageTool,
    }
    turns = [kinds.get(m["role"], ChatMessageUser)(content=m["content"]) for m in messages]
    output = ModelOutput.from_content(MODEL, text)
    plain = len(messages) == 1 and messages[0]["role"] == "text"
    state = TaskState(
        model=ModelName(MODEL), sample_id=0, epoch=1, input=messages[0]["content"] if plain else turns,
        messages=[*turns, output.message], target=RealTarget(target), choices=choices, output=output,
        completed=True, metadata=metadata,
    )  # fmt: skip
    return state, RealTarget(target)


def sample(
    messages: Sequence[Mapping[str, str]], text: str, target: Any, metadata: dict[str, Any], choices: Any
) -> tuple[Any, Any]:
    """(state, target) for one completion.

    messages: the prompt. text: the completion. target: the reference text, or several. metadata: the row's other
    columns. choices: of a multiple-choice question, or None.
    """
    texts = _texts(target)
    if importlib.util.find_spec("inspect_ai") is None:
        state = _stand_in(messages, text, texts, metadata)
        return state, state.target
    return _real(messages, text, texts, metadata, choices)
