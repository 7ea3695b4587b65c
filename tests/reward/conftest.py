"""What the tests of single rewards share: texts in, scores out."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from charter.reward import as_group, load_reward, runtime
from charter.reward.frames import HEADER, encode
from charter.reward.pool import Reply
from charter.reward.runtime import NamedReward
from charter.reward.worker import TASKS
from charter.types import Prompt, Score


class InlinePool:
    """A worker's task in this process, its messages encoded as for one: the rules without the wait for a start.

    What depends on a process (time limits, memory, its death) is tested with `in_worker=True`.
    """

    def __init__(self, task: str, options: Mapping[str, Any], **_: Any) -> None:
        self._task, self._options, self._handler = task, json.loads(encode(dict(options))[HEADER.size :]), None

    async def run(self, payload: Mapping[str, Any], limit_s: float, **_: Any) -> Reply:
        del limit_s
        if self._handler is None:
            module, _colon, name = TASKS[self._task].partition(":")
            self._handler, _facts = getattr(importlib.import_module(module), name)(self._options)
        result = self._handler(json.loads(encode(payload)[HEADER.size :]))
        return Reply(result=json.loads(encode(result)[HEADER.size :]), seconds=0.0)

    def close(self) -> None:
        """Nothing to kill."""


@pytest.fixture(name="score_texts")
def _score_texts(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Score]]:
    """score_texts(name, texts, columns, **options) → one Score per text, for one prompt with those columns."""

    def score(
        name: str,
        texts: Sequence[str],
        fields: Mapping[str, Any] | None = None,
        *,
        in_worker: bool = False,
        **options: Any,
    ) -> list[Score]:
        with monkeypatch.context() as patch:
            if not in_worker:
                patch.setattr(runtime, "WorkerPool", InlinePool)
            reward = load_reward(name, **{"timeout_s": 5.0, **options})
        assert isinstance(reward, NamedReward)
        prompt = Prompt(id="p", messages=(), fields=fields or {})
        try:
            return list(asyncio.run(reward.score(as_group(prompt, texts))))
        finally:
            reward.shut_down()

    return score


@pytest.fixture(name="probe_reward")
def _probe_reward() -> Callable[..., list[str]]:
    """probe_reward(name, columns, **options) → what `probe` says about the reward on one prompt with those columns."""
    from charter.reward import probe

    def ask(name: str, fields: Mapping[str, Any] | None = None, **options: Any) -> list[str]:
        reward = load_reward(name, **options)
        assert isinstance(reward, NamedReward)
        try:
            return asyncio.run(probe(reward, [Prompt(id="p", messages=(), fields=fields or {})]))
        finally:
            reward.shut_down()

    return ask
