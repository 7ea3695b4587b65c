"""The ASGI app of a sandbox server: who may ask, how much is read, how many run, what is answered.

Every answer is JSON and names the protocol's version; a refusal is {"error": sentence}.

Source: starlette; docs/sandbox_protocol.md.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from charter.errors import SandboxUnavailable
from charter.sandbox.job import CallSuite, CallTest, CheckerSuite, Limits, Sandbox, StdioCase
from charter.sandbox.serve_bodies import Body, CallsBody, CheckerBody, QueryBody, StdioBody, faults_of, over
from charter.sandbox.serve_settings import ServeSettings
from charter.sandbox.wire import PROTOCOL, PROTOCOL_HEADER, limits_body, verdict_body
from charter.sandbox.wire_query import result_body

T = TypeVar("T")
RETRY_AFTER_S = 1
_TIERS = frozenset("ABC")


class Refusal(Exception):  # noqa: N818 - reads as the condition it names
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers or {}


def _reply(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    # escaped: a note may quote a program, and programs hold lone surrogates
    content = json.dumps(body, allow_nan=False).encode("ascii")
    named = {PROTOCOL_HEADER: str(PROTOCOL), "cache-control": "no-store", **(headers or {})}
    return Response(content, status, named, media_type="application/json")


class App:
    """The endpoints over one sandbox."""

    def __init__(self, sandbox: Sandbox, settings: ServeSettings) -> None:
        self._sandbox = sandbox
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.slots)
        self._inside = 0

    def starlette(self) -> Starlette:
        """The app."""
        routes = [Route("/v1/health", self._guarded(self._health), methods=["GET"])]
        for name, model in (("calls", CallsBody), ("stdio", StdioBody), ("checker", CheckerBody), ("query", QueryBody)):
            routes.append(Route(f"/v1/{name}", self._guarded(self._job(model)), methods=["POST"]))
        return Starlette(routes=routes, exception_handlers={HTTPException: _say, Exception: _say_failed})

    def _guarded(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            try:
                self._admit(request)
                return await endpoint(request)
            except Refusal as refusal:
                return _reply({"error": str(refusal)}, refusal.status, refusal.headers)

        return guarded

    def _admit(self, request: Request) -> None:
        token = self._settings.token
        if token is not None:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            # compared in constant time, whatever its length
            if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode("latin-1"), token.encode("ascii")):
                raise Refusal(401, "the token is missing or wrong", {"www-authenticate": "Bearer"})
        if "origin" in request.headers:  # a page in a browser on this machine, whatever name it came under
            raise Refusal(403, "this server is not for browsers")
        version = request.headers.get(PROTOCOL_HEADER)
        if version is not None and version != str(PROTOCOL):
            raise Refusal(400, f"this server speaks version {PROTOCOL} of the protocol; upgrade the older side")

    async def _health(self, request: Request) -> Response:
        kind, settings = self._sandbox.kind, self._settings
        body = {
            "protocol": PROTOCOL,
            "kind": kind,
            "tier": kind if kind in _TIERS else None,
            "slots": settings.slots,
            "queue": settings.queue,
            "running": min(self._inside, settings.slots),
            "waiting": max(0, self._inside - settings.slots),
            "self_test_s": settings.self_test_s,
            "most_limits": limits_body(settings.most),
            "most_body_bytes": settings.most_body_bytes,
        }
        return _reply(body)

    def _job(self, model: type[Body]) -> Callable[[Request], Awaitable[Response]]:
        async def job(request: Request) -> Response:
            if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                raise Refusal(415, "the body must be JSON: content-type: application/json")
            if request.headers.get("content-encoding", "identity").lower() != "identity":
                raise Refusal(415, "the body must not be compressed")
            with self._place():
                body = self._parse(model, await self._read(request))
                return await self._while_heard(request, self._work(body))

        return job

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._inside >= self._settings.slots + self._settings.queue:
            raise Refusal(429, "every slot is taken and the queue is full", {"retry-after": str(RETRY_AFTER_S)})
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def _read(self, request: Request) -> bytes:
        most = self._settings.most_body_bytes
        too_large = Refusal(413, f"the body is over {most} bytes", {"connection": "close"})
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and (len(announced) > 18 or int(announced) > most):
            raise too_large
        parts = bytearray()
        try:
            async with asyncio.timeout(self._settings.body_limit_s):
                async for part in request.stream():
                    parts += part
                    if len(parts) > most:
                        raise too_large
        except TimeoutError:
            limit_s = self._settings.body_limit_s
            raise Refusal(408, f"the body did not arrive in {limit_s:g} s", {"connection": "close"}) from None
        except ClientDisconnect:
            raise Refusal(400, "the client left") from None
        return bytes(parts)

    def _parse(self, model: type[Body], content: bytes) -> Body:
        try:
            data = json.loads(content)
        except (ValueError, RecursionError):
            raise Refusal(400, "the body is no JSON") from None
        if not isinstance(data, dict):
            raise Refusal(422, "the body is no table")
        try:
            body = model.model_validate(data)
        except ValidationError as error:
            raise Refusal(422, faults_of(error)) from None
        if fault := over(body.limits, self._settings.most):
            raise Refusal(422, f"{fault}; ask for less or start the server with more")
        if isinstance(body, (CallsBody, StdioBody)) and len(body.tests) > self._settings.most_tests:
            raise Refusal(422, f"{len(body.tests)} tests; this server runs up to {self._settings.most_tests} a request")
        return body

    async def _work(self, body: Body) -> Response:
        async with self._slots:
            try:
                return _reply(await self._run(body))
            except SandboxUnavailable as error:
                raise Refusal(500, f"the sandbox no longer holds: {error}") from None
            except Exception as error:  # noqa: BLE001 - its text may quote the program
                raise Refusal(500, f"the sandbox failed with {type(error).__name__}") from None

    async def _run(self, body: Body) -> dict[str, Any]:
        limits = Limits(**body.limits.model_dump())
        match body:
            case CallsBody():
                tests = tuple(CallTest(source=t.source, calls=tuple(t.calls), check=t.check) for t in body.tests)
                suite = CallSuite(tests=tests, setup=body.setup)
                return verdict_body(await self._sandbox.run_calls(body.program, suite, limits))
            case StdioBody():
                cases = [StdioCase(stdin=case.stdin, stdout=case.stdout) for case in body.tests]
                return verdict_body(await self._sandbox.run_stdio(body.program, cases, limits, every=body.every))
            case CheckerBody():
                checker = CheckerSuite(tests=body.tests, entry=body.entry)
                return verdict_body(await self._sandbox.run_checker(body.program, checker, limits))
            case QueryBody():
                return result_body(await self._sandbox.run_query(body.query, body.database, limits))

    async def _while_heard(self, request: Request, work: Awaitable[Response]) -> Response:
        """Do the work unless the client leaves: a trainer that died wants no verdicts."""
        running = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_departure(request))
        try:
            await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                return running.result()
            raise Refusal(499, "the client left")
        finally:
            for task in (running, gone):
                task.cancel()
                with suppress(asyncio.CancelledError, Refusal):
                    await task


async def _departure(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _say(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _reply({"error": error.detail}, error.status_code, dict(error.headers or {}))


async def _say_failed(request: Request, error: Exception) -> Response:
    return _reply({"error": f"the server failed with {type(error).__name__}"}, 500)
