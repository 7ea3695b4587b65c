"""The sandbox `remote`: programs sent to a server that has a sandbox of its own.

    RemoteSandbox("http://10.0.0.7:8711", token="…")  →  Sandbox of kind "remote"
    RemoteSandbox()                                   the same, from CHARTER_SANDBOX_URL and CHARTER_SANDBOX_TOKEN

Whatever goes wrong on the way (no connection, an overloaded or newer server, half an answer, an answer with impossible
numbers) is the outcome sandbox_error with its cause: never an exception, never a reward of 0.

Not here: the server (`serve.py`), what crosses (`wire.py`). The protocol: docs/sandbox_protocol.md.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from charter.errors import SandboxUnavailable, UsageError
from charter.sandbox.job import CallSuite, CheckerSuite, Limits, QueryResult, StdioCase, Verdict
from charter.sandbox.remote_http import Exchange, RemoteFault
from charter.sandbox.wire import (
    MOST_VERDICT_BYTES,
    PROTOCOL,
    TOKEN_VARIABLE,
    URL_VARIABLE,
    WireError,
    calls_body,
    checker_body,
    read_verdict,
    stdio_body,
)
from charter.sandbox.wire_query import query_body, read_result

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What a server says of itself.

    kind: of its sandbox ("A", "B", "C", "monty", "unsafe"). tier: the same where it is a jail, None otherwise.
    slots: programs it runs at a time. queue: requests that may wait beside those.
    self_test_s: how long its self-test took, in seconds; None if it had none.
    """

    kind: str
    tier: str | None
    slots: int
    queue: int
    protocol: int
    self_test_s: float | None


async def _shut(running: set[asyncio.Task[Any]], exchange: Exchange) -> None:
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await exchange.close()
    asyncio.get_running_loop().stop()


def _stop(
    loop: asyncio.AbstractEventLoop, thread: threading.Thread, running: set[asyncio.Task[Any]], exchange: Exchange
) -> None:
    exchange.closed = True
    if not thread.is_alive():
        return
    asyncio.run_coroutine_threadsafe(_shut(running, exchange), loop)
    if threading.current_thread() is not thread:  # the last reference may go in any thread
        thread.join(timeout=10.0)


class RemoteSandbox:
    """Programs run by a server (`charter sandbox serve`).

    url: of the server, http or https, with a path before /v1 if a proxy needs one; left out, CHARTER_SANDBOX_URL.
    token: what it was started with; left out, CHARTER_SANDBOX_TOKEN, or none.
    timeout_s: time allowed beyond what the job's own limits allow, for queue, transport and retries (seconds).
    connections: most requests at the same time; more wait here, without a deadline. The server's own number (slots and
    queue) counts where it is smaller.

    Raises: UsageError for a URL or token that cannot be used.
    """

    kind = "remote"

    def __init__(
        self, url: str | None = None, *, token: str | None = None, timeout_s: float = 120.0, connections: int = 64
    ) -> None:
        url = url or os.environ.get(URL_VARIABLE)
        if not url:
            raise UsageError(f"the sandbox 'remote' needs the address of its server: give a url, or set {URL_VARIABLE}")
        if token is None:
            token = os.environ.get(TOKEN_VARIABLE) or None
        if connections < 1:
            raise UsageError(f"connections is {connections}; give the remote sandbox at least 1")
        if not timeout_s > 0:
            raise UsageError(f"timeout_s is {timeout_s}; give the remote sandbox a time above 0 seconds")
        self._timeout_s = timeout_s
        self._exchange = Exchange(_checked(url), _checked_token(token), connections)
        # a loop of its own: the pool of connections outlives the event loops that callers come from
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, args=(self._loop,), name="charter-remote", daemon=True)
        self._thread.start()
        self._running: set[asyncio.Task[Any]] = set()
        self._most = connections
        self._turns: asyncio.Semaphore | None = None
        self._learning = asyncio.Lock()
        self._finalizer = weakref.finalize(self, _stop, self._loop, self._thread, self._running, self._exchange)

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        loop.close()

    async def run_calls(self, program: str, suite: CallSuite, limits: Limits) -> Verdict:
        """Ask the program for the value of each call and judge the values outside."""
        body = calls_body(program, suite, limits)
        return await self._verdict("calls", body, len(suite.tests), limits.wall_s)

    async def run_stdio(
        self, program: str, cases: Sequence[StdioCase], limits: Limits, *, every: bool = False
    ) -> Verdict:
        """Run the program once per case and compare what it wrote with what was expected, whole."""
        body = stdio_body(program, cases, limits, every=every)
        return await self._verdict("stdio", body, len(cases), limits.wall_s * len(cases))

    async def run_checker(self, program: str, suite: CheckerSuite, limits: Limits) -> Verdict:
        """Run test code against the program."""
        return await self._verdict("checker", checker_body(program, suite, limits), None, 2 * limits.wall_s)

    async def run_query(self, query: str, database: bytes, limits: Limits) -> QueryResult:
        """Run one SQL statement that only reads on a copy of an SQLite database."""
        most_bytes = MOST_VERDICT_BYTES + 8 * limits.result_bytes  # base64, escapes and separators of small cells
        body = query_body(query, database, limits)
        try:
            answer = await self._there(self._post("/v1/query", body, most_bytes, limits.wall_s))
            return read_result(answer)
        except RemoteFault as fault:
            return QueryResult(outcome="sandbox_error", note=str(fault))
        except WireError as fault:
            return QueryResult(outcome="sandbox_error", note=self._exchange.said(f"no result of a query: {fault}"))

    async def health(self) -> Health:
        """What the server says of itself. Raises: SandboxUnavailable when it says nothing that can be used."""
        try:
            answer = await self._there(self._exchange.get("/v1/health", MOST_VERDICT_BYTES, self._timeout_s))
            return _read_health(answer)
        except RemoteFault as fault:
            raise SandboxUnavailable(
                f"{fault}. Start it with `charter sandbox serve`, or check url and token"
            ) from None
        except WireError as fault:
            raise SandboxUnavailable(self._exchange.said(f"nothing about its health: {fault}")) from None

    def close(self) -> None:
        """End the requests that run (outcome sandbox_error) and close the connections."""
        self._finalizer()

    async def _verdict(self, mode: str, body: dict[str, Any], total: int | None, work_s: float) -> Verdict:
        try:
            answer = await self._there(self._post(f"/v1/{mode}", body, MOST_VERDICT_BYTES, work_s))
            return read_verdict(answer, total=total)
        except RemoteFault as fault:
            note = str(fault)
        except WireError as fault:
            note = self._exchange.said(f"no verdict: {fault}")
        return Verdict(outcome="sandbox_error", passed=0, total=total or 0, seconds=0.0, note=note)

    async def _post(self, path: str, body: dict[str, Any], most_bytes: int, work_s: float) -> Any:
        async with await self._turn():
            return await self._exchange.post(path, body, most_bytes, work_s + self._timeout_s)

    async def _turn(self) -> asyncio.Semaphore:
        """The requests that may run at the same time: as many as the server has room for, asked once."""
        async with self._learning:
            if self._turns is None:
                most = self._most
                try:
                    health = _read_health(
                        await self._exchange.ask_once("/v1/health", MOST_VERDICT_BYTES, min(self._timeout_s, 10.0))
                    )
                    most = min(most, health.slots + health.queue)
                except (RemoteFault, WireError):
                    pass  # the job itself meets whatever is wrong, and says so
                self._turns = asyncio.Semaphore(most)
        return self._turns

    async def _there(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work on the sandbox's own loop; a caller that is cancelled cancels it."""
        if self._exchange.closed:
            work.close()
            raise RemoteFault("the remote sandbox was closed")
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._tracked(work), self._loop))

    async def _tracked(self, work: Awaitable[T]) -> T:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            return await work
        except asyncio.CancelledError:
            if self._exchange.closed:
                raise RemoteFault("the remote sandbox was closed") from None
            raise
        finally:
            self._running.discard(task)


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    else:
        usable = usable and not (parts.query or parts.fragment or parts.username or parts.password)
    if not usable:
        raise UsageError(
            f"{url!r} is no address of a sandbox server; give one like http://127.0.0.1:8711 (the token goes beside it)"
        )
    return url.rstrip("/")


def _checked_token(token: str | None) -> str | None:
    if token is not None and (not token or not token.isascii() or not token.isprintable() or " " in token):
        raise UsageError("the token of the sandbox server is empty or holds characters other than printable ASCII")
    return token


def _read_health(body: object) -> Health:
    if not isinstance(body, dict):
        raise WireError("it is no table")
    kind, tier, slots, queue, protocol, self_test_s = (
        body.get(key) for key in ("kind", "tier", "slots", "queue", "protocol", "self_test_s")
    )
    if protocol != PROTOCOL:
        raise WireError(f"it speaks version {protocol!r:.20} of the protocol and this client version {PROTOCOL}")
    if not isinstance(kind, str) or not isinstance(tier, str | None):
        raise WireError("kind or tier is missing or of another type")
    if type(slots) is not int or slots < 1 or type(queue) is not int or queue < 0:
        raise WireError("slots or queue is missing or no number of programs")
    if self_test_s is not None and (type(self_test_s) not in (int, float) or not self_test_s >= 0):
        raise WireError("self_test_s is no time")
    return Health(kind=kind, tier=tier, slots=slots, queue=queue, protocol=PROTOCOL, self_test_s=self_test_s)
