"""The supervised stage in a process of its own that may be killed at any instant.

python killed_revision.py RECIPE RUN_DIR LOG DELAY_S

Its author writes the id of every request into LOG, with fsync, before it answers, and takes DELAY_S for each answer.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from charter.cli.cai_run import open_cai_run
from charter.cli.supervising import run_supervised
from charter.constitution.feedback import Match
from charter.constitution.records import Preference
from charter.constitution.watching import SILENT
from charter.recipe import load_cai_recipe
from charter.sampler.scripted import ScriptedChat
from charter.types import ChatReply, ChatRequest

SAID = (
    "Issue: it may hurt somebody.", "No issue: it is kind.", "Hm.", "Please do not. Ask a friend instead.",
    "I would rather help you with something safe. What is behind this?", "As an AI reviewing this, no.",
)  # fmt: skip


def reply(request: ChatRequest) -> str:
    """A list where prompts are asked for, else one of what can be said, with the request's id to tell replies apart."""
    if "One message per line" in request.messages[-1]["content"]:
        return "\n".join(f"{i}. Tell {request.id} about {i}{request.id} and {request.id}{i}" for i in range(1, 6))
    return f"{SAID[int(request.id, 16) % len(SAID)]} {request.id}."


class Logged(ScriptedChat):
    def __init__(self, log: Path, delay_s: float) -> None:
        super().__init__(reply, name="logged")
        self.log, self.delay_s = log, delay_s

    async def generate(self, requests: Sequence[ChatRequest]) -> AsyncIterator[ChatReply]:
        fd = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            async for answer in super().generate(requests):
                os.write(fd, f"{answer.id}\n".encode())
                os.fsync(fd)
                await asyncio.sleep(self.delay_s)
                yield answer
        finally:
            os.close(fd)


async def prefer(matches: Sequence[Match]) -> list[Preference | None]:
    """Likes two of three revisions, by their text's length."""
    return [
        Preference(a=m.a_id, b=m.b_id, p_a=(0.2, 0.7, 0.9)[len(m.a) % 3], position_gap=0.0, members=()) for m in matches
    ]


def main(recipe: str, folder: str, log: str, delay_s: str) -> None:
    with open_cai_run(load_cai_recipe(recipe), Path(folder)) as run:
        asyncio.run(run_supervised(run, Logged(Path(log), float(delay_s)), watcher=SILENT, prefer=prefer))


if __name__ == "__main__":
    main(*sys.argv[1:])
