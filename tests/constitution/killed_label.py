"""The feedback stage in a process of its own that may be killed at any instant.

python killed_label.py RECIPE RUN_DIR LOG DELAY_S

Policy and judge write the id of every request into LOG, with fsync, before they answer, and take DELAY_S for each.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from charter.cli.cai_run import open_cai_run
from charter.cli.labelling import run_label
from charter.constitution.watching import SILENT
from charter.recipe import load_cai_recipe
from charter.sampler.scripted import ScriptedChat
from charter.types import ChatReply, ChatRequest, ChoiceReply, ChoiceRequest


def reply(request: ChatRequest) -> str:
    return f"reply {request.id}"


def choices(request: ChoiceRequest) -> list[float]:
    return [-0.1 - int(request.id[:4], 16) / 65536, -0.5]


class Logged(ScriptedChat):
    def __init__(self, name: str, log: Path, delay_s: float) -> None:
        super().__init__(reply, choices, name=name)
        self.log, self.delay_s = log, delay_s

    async def generate(self, requests: Sequence[ChatRequest]) -> AsyncIterator[ChatReply]:
        async for answer in super().generate(requests):
            await self.note(answer.id)
            yield answer

    async def choice_logprobs(self, requests: Sequence[ChoiceRequest]) -> AsyncIterator[ChoiceReply]:
        async for answer in super().choice_logprobs(requests):
            await self.note(answer.id)
            yield answer

    async def note(self, id: str) -> None:
        fd = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(fd, f"{id}\n".encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        await asyncio.sleep(self.delay_s)


def main(recipe: str, folder: str, log: str, delay_s: str) -> None:
    policy, judge = (Logged(name, Path(log), float(delay_s)) for name in ("policy", "judge"))
    with open_cai_run(load_cai_recipe(recipe), Path(folder)) as run:
        asyncio.run(run_label(run, policy, judge, SILENT))


if __name__ == "__main__":
    main(*sys.argv[1:])
