"""`tool_call`: whether a completion calls the right tool with the right arguments.

A column holds the expected call, the tools' signatures, or both. Parsing and comparison run in a worker process
(`tool_answer.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from charter.reward.extract import PLACE_HELP, Place
from charter.reward.math import reference_column
from charter.reward.runtime import Verdict, WorkerReward
from charter.reward.tool_answer import Call, trusted_calls
from charter.types import Prompt, Rollout


class ToolCallOptions(BaseModel):
    """Options of `tool_call`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answer: str | None = Field(
        None,
        description="Column with the expected call, a list of calls, or [] where none is right: a table or JSON text. "
        'Default "answer", and none when only tools is given.',
    )
    tools: str | list[dict[str, Any]] | None = Field(
        None, description="The tools' signatures (JSON Schema), or the column that holds them."
    )
    syntax: Literal["auto", "hermes", "json", "openai"] = Field(
        "auto",
        description='How a call is written: <tool_call>{"name", "arguments"}</tool_call>, that JSON alone, or '
        '{"function": {"name", "arguments": "JSON text"}}.',
    )
    extract: Place = Field("auto", description=f"{PLACE_HELP} Of no meaning to hermes.")
    partial: bool = Field(
        False, description="Credit for part: a third each for the name, the arguments' names, and their values."
    )

    @property
    def expected_column(self) -> str | None:
        """The column with the expected call, or None when the signatures alone decide."""
        return "answer" if self.answer is None and self.tools is None else self.answer


def write_calls(calls: list[Call], syntax: str) -> str:
    """Calls as a model would write them."""
    if not calls:
        return "No tool is needed."
    plain = [{"name": call.name, "arguments": dict(call.arguments)} for call in calls]
    if syntax in ("auto", "hermes"):
        return "\n".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in plain)
    if syntax == "openai":
        plain = [
            {"type": "function", "function": {"name": c.name, "arguments": json.dumps(dict(c.arguments))}}
            for c in calls
        ]
    return json.dumps(plain[0] if len(plain) == 1 else plain)


class ToolCallReward(WorkerReward):
    """1 when the calls are the expected ones and keep to their signatures, else 0 or, with `partial`, a share."""

    def __init__(self, name: str, timeout_s: float, options: ToolCallOptions) -> None:
        super().__init__(name, timeout_s, "tool_call", {"syntax": options.syntax, "extract": options.extract,
                                                        "partial": options.partial})  # fmt: skip
        self.options = options

    def required_columns(self) -> tuple[str, ...]:
        """The columns with the expected call and the signatures."""
        expected, tools = self.options.expected_column, self.options.tools
        return tuple(column for column in (expected, tools) if isinstance(column, str))

    def reference(self, prompt: Prompt) -> str | None:
        """The expected calls, written as the syntax has it."""
        column = self.options.expected_column
        if column is None or prompt.fields.get(column) is None:
            return None
        try:
            return write_calls(trusted_calls(prompt.fields[column]), self.options.syntax)
        except ValueError:
            return None  # scoring the row will say what is wrong with it

    def prepare(self, prompt: Prompt, rollout: Rollout) -> Mapping[str, Any] | Verdict:
        """The text with what its row expects."""
        work: dict[str, Any] = {"text": rollout.text, "row": f"row {prompt.id}", "expected": None, "tools": None}
        for key, column in (("expected", self.options.expected_column), ("tools", self.options.tools)):
            if isinstance(column, str):
                found = reference_column(prompt, column)
                if isinstance(found, Verdict):
                    return found
                work[key], work["row"] = found, f"{work['row']}, column {column!r}"
            elif column is not None:
                work[key] = column
        return work
