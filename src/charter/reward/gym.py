"""`reasoning_gym`: the data set's own scorer, for prompts that came from reasoning-gym.

The scorer reads model-written text, so it runs in a worker process: text it chokes on is wrong, an entry it cannot
score even with its own answer is a failure.

Source: github.com/open-thought/reasoning-gym, `get_score_answer_fn(task)(answer, entry)`, a number in [0, 1].
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from charter.errors import MissingExtra, Problem
from charter.reward.runtime import Verdict, WorkerReward, failed, missing_column
from charter.types import Prompt, Rollout

COLUMNS = ("question", "answer", "metadata", "task")


class GymOptions(BaseModel):
    """Options of `reasoning_gym`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    extract: Literal["text", "tag", "last_line"] = Field(
        "text",
        description="Where the answer is: the whole text, the last <answer>…</answer>, or the last line with text.",
    )
    task: str | None = Field(None, description="Task whose scorer is used when the data has no column `task`.")


def extract_answer(text: str, extract: str) -> str | None:
    """The answer in a completion; None when it is not where it should be."""
    if extract == "tag":
        head, closed, _ = text.rpartition("</answer>")
        _, opened, inside = head.rpartition("<answer>")
        return inside.strip() if closed and opened else None
    if extract == "last_line":
        lines = text.strip().splitlines()
        return lines[-1].strip() if lines else None
    return text.strip()


class GymReward(WorkerReward):
    """The score of reasoning-gym's own scorer, in [0, 1]."""

    def __init__(self, name: str, timeout_s: float, options: GymOptions) -> None:
        if importlib.util.find_spec("reasoning_gym") is None:
            raise MissingExtra("reasoning-gym", "gym", f"the reward {name!r}")
        super().__init__(name, timeout_s, "reasoning_gym", {})
        self.options = options

    def required_columns(self) -> tuple[str, ...]:
        """What a row from reasoning-gym has."""
        return COLUMNS if self.options.task is None else COLUMNS[:-1]

    def check_columns(self, columns: Sequence[str], source: str) -> list[Problem]:
        """The four columns, or one called `reasoning_gym` that holds {"task", "entry"}."""
        if "reasoning_gym" in columns:
            return []
        return [missing_column(self.name, c, columns, source) for c in self.required_columns() if c not in columns]

    def reference(self, prompt: Prompt) -> str | None:
        """The entry's own answer, in tags when the answer is looked for there."""
        found = self._entry(prompt)
        if isinstance(found, Verdict) or found[1].get("answer") is None:
            return None
        answer = str(found[1]["answer"])
        return f"<answer>{answer}</answer>" if self.options.extract == "tag" else answer

    def prepare(self, prompt: Prompt, rollout: Rollout) -> Mapping[str, Any] | Verdict:
        """The answer, with the entry it is scored against."""
        found = self._entry(prompt)
        if isinstance(found, Verdict):
            return found
        task, entry = found
        return {"task": task, "entry": entry, "answer": extract_answer(rollout.text, self.options.extract)}

    def _entry(self, prompt: Prompt) -> tuple[str, dict[str, Any]] | Verdict:
        whole = prompt.fields.get("reasoning_gym")
        fields: Mapping[str, Any] = prompt.fields
        if isinstance(whole, Mapping):
            fields = {"task": whole.get("task"), **dict(whole.get("entry") or {})}
        metadata = fields.get("metadata")
        if isinstance(metadata, str):
            try:
                metadata = json.loads(metadata)
            except ValueError:
                return failed(f"row {prompt.id}: the column 'metadata' is text and not JSON")
        task = fields.get("task") or self.options.task
        if not isinstance(task, str) or not isinstance(metadata, Mapping) or "answer" not in fields:
            have = ", ".join(map(repr, prompt.fields)) or "none"
            return failed(
                f"row {prompt.id} is no reasoning-gym entry: expected {', '.join(COLUMNS)} (its columns: {have})"
            )
        return task, {"question": fields.get("question", ""), "answer": fields["answer"], "metadata": dict(metadata)}
