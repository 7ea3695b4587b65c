"""One JSON exchange with a sandbox server: deadline, retries where they are safe, answers of bounded size.

Running a program twice does no harm, so a request is repeated whenever no answer to it had begun: no connection, a
connection that broke before the answer, 429 and 503. Everything else ends it at once.

Source: httpx2's errors for the transport; stamina's back-off with jitter.
"""

from __future__ import annotations

import asyncio
import json
import random
from datetime import timedelta
from typing import Any

import httpx2
import stamina

from charter.sandbox.wire import PROTOCOL, PROTOCOL_HEADER

MOST_FAILURES = 8
"""Failed connections of one exchange, about 13 seconds of them: a server that restarts is waited for. A busy one is
asked again until the deadline."""
LONGEST_WAIT_S = 10.0
"""Longest pause between two attempts, whatever the server asks for (seconds)."""
CONNECT_S = 10.0
_EXCERPT = 160


class RemoteFault(Exception):  # noqa: N818 - reads as the condition it names
    """An exchange that brought no answer to rely on; the text says why."""


class _Passing(RemoteFault):
    """The same, for a cause that may be gone in a moment.

    busy: the server answered, and asked to come again. wait_s: when.
    """

    def __init__(self, text: str, *, busy: bool = False, wait_s: float | None = None) -> None:
        super().__init__(text)
        self.busy = busy
        self.wait_s = wait_s


def _pause(error: Exception) -> bool | timedelta:
    if not isinstance(error, _Passing):
        return False
    if error.wait_s is None:
        return True
    return timedelta(seconds=error.wait_s * random.uniform(1.0, 1.5))  # else all who were refused come back at once


class Exchange:
    """Requests to one server over a pool of connections, of which `connections` are kept open.

    base: its URL without a slash at the end.
    """

    def __init__(self, base: str, token: str | None, connections: int) -> None:
        self.base = base
        self.closed = False
        self._connections = connections
        self._headers = {PROTOCOL_HEADER: str(PROTOCOL), "accept": "application/json", "accept-encoding": "identity"}
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"
        self._client: httpx2.AsyncClient | None = None

    def said(self, what: str) -> str:
        """A sentence about an answer of the server."""
        return f"the sandbox server {self.base} answered with {what}"

    async def post(self, path: str, body: dict[str, Any], most_bytes: int, limit_s: float) -> Any:
        """Send a table, wait up to `limit_s` seconds, return the JSON of the answer. Raises: RemoteFault."""
        # escaped, so that whatever a model writes (lone surrogates too) crosses
        return await self._bounded("POST", path, json.dumps(body).encode("ascii"), most_bytes, limit_s)

    async def get(self, path: str, most_bytes: int, limit_s: float) -> Any:
        """The JSON of a page. Raises: RemoteFault."""
        return await self._bounded("GET", path, None, most_bytes, limit_s)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def ask_once(self, path: str, most_bytes: int, limit_s: float) -> Any:
        """The JSON of a page, without another attempt. Raises: RemoteFault."""
        try:
            async with asyncio.timeout(limit_s):
                return await self._once("GET", path, None, most_bytes)
        except TimeoutError:
            raise RemoteFault(f"the sandbox server {self.base} gave no answer in {limit_s:g} s") from None

    async def _bounded(self, method: str, path: str, body: bytes | None, most_bytes: int, limit_s: float) -> Any:
        failures: list[_Passing] = []
        try:
            async with asyncio.timeout(limit_s):
                return await self._with_retries(method, path, body, most_bytes, limit_s, failures)
        except TimeoutError:
            before = f" (before that: {failures[-1]})" if failures else ""
            raise RemoteFault(f"the sandbox server {self.base} gave no answer in {limit_s:g} s{before}") from None

    async def _with_retries(
        self, method: str, path: str, body: bytes | None, most_bytes: int, limit_s: float, failures: list[_Passing]
    ) -> Any:
        async for attempt in stamina.retry_context(
            on=_pause, attempts=None, timeout=limit_s, wait_initial=0.1, wait_max=LONGEST_WAIT_S, wait_jitter=0.5
        ):
            with attempt:
                try:
                    return await self._once(method, path, body, most_bytes)
                except _Passing as fault:
                    failures.append(fault)
                    if sum(not one.busy for one in failures) >= MOST_FAILURES:
                        raise RemoteFault(f"{fault} ({MOST_FAILURES} attempts)") from fault
                    raise
        raise AssertionError("stamina ends with a result or an exception")

    async def _once(self, method: str, path: str, body: bytes | None, most_bytes: int) -> Any:
        client = self._open()
        headers = {"content-type": "application/json"} if body is not None else {}
        request = client.build_request(method, self.base + path, content=body, headers=headers)
        try:
            response = await client.send(request, stream=True)
        except (httpx2.NetworkError, httpx2.RemoteProtocolError, httpx2.ConnectTimeout) as error:
            raise _Passing(f"no connection to the sandbox server {self.base}: {_name(error)}") from error
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise RemoteFault(f"no connection to the sandbox server {self.base}: {_name(error)}") from error
        try:
            content = await self._content(response, most_bytes)
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise RemoteFault(self.said(f"half an answer: {_name(error)}")) from error
        finally:
            await response.aclose()
        return self._read(response, content)

    def _open(self) -> httpx2.AsyncClient:
        if self._client is None:
            pool = httpx2.Limits(max_connections=None, max_keepalive_connections=self._connections)
            # the answer's own deadline is the whole exchange's; proxies of the environment are for the outside world
            timeout = httpx2.Timeout(None, connect=CONNECT_S)
            self._client = httpx2.AsyncClient(limits=pool, timeout=timeout, headers=self._headers, trust_env=False)
        return self._client

    async def _content(self, response: httpx2.Response, most_bytes: int) -> bytes:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise RemoteFault(self.said("an encoding it was not asked for"))
        parts = bytearray()
        async for part in response.aiter_raw():
            parts += part
            if len(parts) > most_bytes:
                raise RemoteFault(self.said(f"more than {most_bytes} bytes"))
        return bytes(parts)

    def _read(self, response: httpx2.Response, content: bytes) -> Any:
        status = response.status_code
        version = response.headers.get(PROTOCOL_HEADER)
        if version is not None and version != str(PROTOCOL):
            raise RemoteFault(
                self.said(
                    f"version {version[:20]!r} of the protocol; this client speaks {PROTOCOL}. Upgrade the older one"
                )
            )
        if status in (429, 503):
            raise _Passing(self.said(f"{status}: {_excerpt(content)}"), busy=True, wait_s=_wait_of(response))
        if status != 200:
            raise RemoteFault(self.said(f"{status}: {_excerpt(content)}"))
        try:
            return json.loads(content, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise RemoteFault(self.said(f"no JSON: {_excerpt(content)}")) from None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _wait_of(response: httpx2.Response) -> float | None:
    try:
        wait_s = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(wait_s, LONGEST_WAIT_S) if wait_s >= 0 else None


def _excerpt(content: bytes) -> str:
    """What an answer says: its key `error` if it is ours, its beginning otherwise."""
    try:
        body = json.loads(content)
        if isinstance(body, dict) and isinstance(body.get("error"), str):
            return body["error"][: 2 * _EXCERPT]
    except (ValueError, RecursionError):
        pass  # a proxy's page; its beginning says more than nothing
    return repr(content[:_EXCERPT].decode("utf-8", "replace"))


def _name(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
