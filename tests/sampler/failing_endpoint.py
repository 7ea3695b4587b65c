"""An OpenAI-compatible endpoint on 127.0.0.1 that answers as a function of the request and fails as it is told to."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

Fault = Callable[[dict[str, Any], int], str]
"""(body, number of the try, from 1) → "" or the kind of failure, one of KINDS."""
KINDS = ("429", "429 at once", "500", "503", "half", "dropped", "answered and dropped", "garbage", "no choices", "slow")
_HEAD = "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{more}\r\n"


def words(body: dict[str, Any]) -> int:
    """Prompt tokens as this endpoint counts them."""
    return sum(len(message["content"].split()) for message in body["messages"])


def answer_to(body: dict[str, Any]) -> dict[str, Any]:
    """The answer: the last message backwards, a word for a token, cut at the limit."""
    text = body["messages"][-1]["content"][::-1].split()
    most: int = body["max_tokens"] if "max_tokens" in body else body["max_completion_tokens"]
    told: dict[str, Any] = {
        "message": {"role": "assistant", "content": " ".join(text[:most])},
        "finish_reason": "length" if len(text) > most else "stop",
    }
    if body.get("logprobs"):
        shown = [{"token": t, "logprob": math.log(p)} for t, p in (("A", 0.5), (" A", 0.1), ("B", 0.25), ("C", 0.15))]
        told["logprobs"] = {"content": [{**shown[2], "top_logprobs": shown[: body["top_logprobs"]]}]}
    usage = {"prompt_tokens": words(body), "completion_tokens": min(len(text), most)}
    return {"choices": [told], "usage": usage}


class FailingEndpoint:
    """A server in a thread of its own; use it as a context manager.

    answer: body → the JSON of status 200, or (status, JSON). fault: see `Fault`. delay_s: before each answer.
    """

    def __init__(
        self, answer: Callable[[dict[str, Any]], Any] = answer_to, *, fault: Fault = lambda body, tries: "",
        delay_s: float = 0.0,
    ) -> None:  # fmt: skip
        self._answer, self._fault, self._delay_s = answer, fault, delay_s
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.answered: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.url = ""
        self._tries: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._ready = threading.Event()
        self._open: set[asyncio.Task[None]] = set()

    def __enter__(self) -> FailingEndpoint:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._connection, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._shut(server))
        self._loop.close()

    async def _shut(self, server: asyncio.Server) -> None:
        server.close()
        running = list(self._open)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the next turn

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # a client that left, or the end of the test
        finally:
            writer.transport.abort() if task.cancelling() else writer.close()
            self._open.discard(task)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection is to be closed."""
        first = await reader.readexactly(1)
        if not first.isalpha():  # a client that begins with TLS
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return False
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(line.split(":")[1]) for line in head.lower().split("\r\n") if line[:15] == "content-length:")
        raw = await reader.readexactly(length)
        body = json.loads(raw)
        name = hashlib.sha256(raw).hexdigest()
        self.heads.append(head)
        self.bodies.append(body)
        self._tries[name] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            fault = self._fault(body, self._tries[name])
            self.faults[fault] += bool(fault)
            await asyncio.sleep(30.0 if fault == "slow" else self._delay_s)
            return await self._respond(writer, body, name, fault)
        finally:
            self.at_once -= 1

    async def _respond(self, writer: asyncio.StreamWriter, body: dict[str, Any], name: str, fault: str) -> bool:
        if fault == "dropped":
            return False
        said = self._answer(body)
        status, told = said if isinstance(said, tuple) else (200, said)
        content = told if isinstance(told, bytes) else json.dumps(told).encode()
        more = ""
        if fault in ("429", "429 at once", "500", "503"):
            status, content = int(fault[:3]), json.dumps({"error": {"message": f"injected {fault}"}}).encode()
            more = "retry-after: 0.02\r\n" if fault == "429" else ""
        elif fault == "garbage":
            content = b"<html>bad gateway</html>"
        elif fault == "no choices":
            content = b'{"object": "chat.completion"}'
        else:
            self.answered[name] += 1
        if fault == "answered and dropped":
            return False
        if status in (301, 302, 307):
            more = "location: https://elsewhere.example/v1\r\n"
        writer.write(_HEAD.format(status=f"{status} X", length=len(content), more=more).encode())
        writer.write(content[: len(content) // 2] if fault == "half" else content)
        await writer.drain()
        return fault != "half"
