"""One try of one request to an OpenAI-compatible endpoint, and what its outcome means for the next.

    Passing    may be gone in a moment: 408, 409, 425, 429, 5xx, no connection, no answer in time, half an answer,
               an answer that is no JSON or lacks a field
    Refused    the endpoint understood and refuses this request: 400, 413, 422
    an error of `charter.errors`, for what concerns every request: 401, 403, 404, a redirect, a certificate, a quota

The key goes into the header and nowhere else; where a server repeats it in an error, it is taken out.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2

from charter.errors import BudgetError, RunError, UsageError

LONGEST_WAIT_S = 300.0
"""Longest pause that a server's Retry-After is granted (seconds)."""
MOST_BYTES = 16 * 2**20
"""Largest answer that is read."""
_REPEATED = frozenset({408, 409, 425, 429})
_FINAL_5XX = frozenset({501, 505})
_EXCERPT = 300
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Passing(Exception):  # noqa: N818 - reads as the condition it names
    """A try that failed for a cause that may be gone in a moment.

    wait_s: when the server asks to be tried again. away: no word came from the server at all.
    """

    def __init__(self, text: str, *, wait_s: float | None = None, away: bool = False) -> None:
        super().__init__(text)
        self.wait_s = wait_s
        self.away = away


class Refused(Exception):  # noqa: N818 - reads as the condition it names
    """The endpoint will not answer this request. said: its sentence. codes: the machine-readable part of it."""

    def __init__(self, status: int, said: str, codes: str) -> None:
        super().__init__(f"status {status}: {said}")
        self.said = said
        self.codes = codes


class Endpoint:
    """Where requests go. Use it as an asynchronous context manager, in one event loop at a time.

    url: up to and including /v1. key: for the header `authorization`, or "".
    connections: kept open. timeout_s: for one try, from the connection to the last byte (seconds).
    """

    def __init__(self, url: str, key: str, *, connections: int, timeout_s: float) -> None:
        self.url = _checked(url)
        self._key = _checked_key(key)
        self._connections = connections
        self._timeout_s = timeout_s
        self._client: httpx2.AsyncClient | None = None

    async def __aenter__(self) -> Endpoint:
        headers = {"accept": "application/json", "accept-encoding": "identity", "content-type": "application/json"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        self._client = httpx2.AsyncClient(
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=self._connections),
            timeout=None,  # the deadline of a try covers all of it
            headers=headers,
            trust_env=urlsplit(self.url).hostname not in _LOOPBACK,  # proxies are for the world outside
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The table that the endpoint answers with.

        Raises: Passing, Refused, or an error of `charter.errors` that concerns every request.
        """
        assert self._client is not None, "the endpoint is not open"
        try:
            async with asyncio.timeout(self._timeout_s):
                # escaped, so that whatever a model wrote crosses
                request = self._client.build_request("POST", self.url + path, content=json.dumps(body).encode("ascii"))
                response = await self._client.send(request, stream=True)
                try:
                    content = await self._content(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise Passing(f"{self.url} gave no answer in {self._timeout_s:g} s", away=True) from None
        except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            raise self._unreachable(error) from error
        return self._read(response, content)

    async def _content(self, response: httpx2.Response) -> bytes:
        parts = bytearray()
        async for part in response.aiter_bytes():
            parts += part
            if len(parts) > MOST_BYTES:
                raise Passing(f"{self.url} answered with more than {MOST_BYTES} bytes")
        return bytes(parts)

    def _unreachable(self, error: Exception) -> Exception:
        host = urlsplit(self.url).hostname
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                return UsageError(
                    f"the certificate of {host} is not trusted: {cause.verify_message}. Check url; for a server of "
                    "your own, name its authority in SSL_CERT_FILE"
                )
            if isinstance(cause, ssl.SSLError):
                return UsageError(
                    f"{self.url} does not speak TLS as expected ({cause.reason or cause}). Check whether url should "
                    "begin with http:// or https://"
                )
            if isinstance(cause, socket.gaierror):
                return Passing(f"the host {host} of url is not known ({cause.strerror}); check url", away=True)
        if isinstance(error, httpx2.UnsupportedProtocol | httpx2.LocalProtocolError):
            return UsageError(f"nothing can be sent to {self.url}: {self._clean(str(error))}. Check url and key")
        text = self._clean(str(error))
        what = f"{type(error).__name__}: {text}" if text else type(error).__name__
        return Passing(f"the connection to {self.url} failed ({what})", away=True)

    def _read(self, response: httpx2.Response, content: bytes) -> dict[str, Any]:
        status = response.status_code
        if status == 200:
            try:
                answer = json.loads(content)
            except (ValueError, RecursionError):
                raise Passing(f"{self.url} answered with no JSON: {self._excerpt(content)!r}") from None
            if not isinstance(answer, dict):
                raise Passing(f"{self.url} answered with JSON that is no table: {self._excerpt(content)!r}")
            return answer
        said, codes = self._sentence(content)
        answered = f"{self.url} answered with status {status}: {said}"
        if "insufficient_quota" in codes:
            raise BudgetError(f"{answered}. Everything answered so far is kept; go on when the account has means again")
        if status in _REPEATED or (status >= 500 and status not in _FINAL_5XX):
            raise Passing(answered, wait_s=_wait_of(response.headers.get("retry-after", "")))
        if status in (400, 413, 422):
            raise Refused(status, said, codes)
        if status in (401, 403):
            has = "the key that was sent" if self._key else "that no key was sent; name its variable in key_env"
            raise UsageError(f"{answered}. Check {has}")
        if status == 404:
            raise UsageError(f"{answered}. Check url (up to and including /v1) and model")
        if 300 <= status < 400:
            where = self._clean(response.headers.get("location", "nowhere"))
            raise UsageError(f"{self.url} redirects to {where}; give that address as url")
        raise RunError(f"{answered}. Nothing else can be asked of it")

    def _sentence(self, content: bytes) -> tuple[str, str]:
        """(what an answer says, its codes): OpenAI's {"error": {"message", "type", "code"}} and its relatives."""
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            return self._excerpt(content) or "nothing", ""
        error = body.get("error", body) if isinstance(body, dict) else body
        if isinstance(error, dict):
            said = next((error[key] for key in ("message", "detail", "error") if error.get(key)), error)
            codes = " ".join(str(error.get(key) or "") for key in ("type", "code"))
        else:
            said, codes = error, ""
        return self._clean(said if isinstance(said, str) else json.dumps(said))[:_EXCERPT], codes

    def _excerpt(self, content: bytes) -> str:
        return self._clean(content[:_EXCERPT].decode("utf-8", "replace").strip())

    def _clean(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text


def _causes(error: BaseException) -> list[BaseException]:
    """An error and everything that led to it."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in found:
            found.append(one)
            waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    return found


def _wait_of(header: str) -> float | None:
    """Seconds that a Retry-After asks for: a number, or a date."""
    try:
        wait_s = float(header)
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError, IndexError):
            return None
    return min(max(wait_s, 0.0), LONGEST_WAIT_S) if wait_s == wait_s else None


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
            f"{url.rpartition('@')[2]!r} is no address of an endpoint; give one like http://127.0.0.1:8000/v1 "
            "(the key goes into the variable that key_env names)"
        )
    return url.rstrip("/").removesuffix("/chat/completions")


def _checked_key(key: str) -> str:
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError("the endpoint's key holds characters other than printable ASCII; check its variable")
    return key
