"""The sandbox server: who gets in, what it reads, how many run, what it says, how it ends."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from charter.errors import SandboxUnavailable, UsageError
from charter.sandbox import CallSuite, CallTest, CheckerSuite, Limits, StdioCase, Verdict
from charter.sandbox.job import QueryResult
from charter.sandbox.remote import RemoteSandbox
from charter.sandbox.serve import build_app, is_loopback, serve
from charter.sandbox.serve_settings import ServeSettings

SUITE = CallSuite(tests=(CallTest(source="assert f(2) == 4", calls=("f(2)",), check="_0 == 4"),), setup="import math")
CALLS = {"program": "p", "tests": [{"source": "s", "calls": ["f(2)"], "check": "_0 == 4"}]}


class Echo:
    """A sandbox that notes what it was asked and says that all passed; `hold` keeps it busy until it is set."""

    kind = "B"
    slots = 2

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.error = error
        self.hold: asyncio.Event | None = None
        self.cancelled = 0

    async def _done(self, total: int, *asked: Any) -> Verdict:
        self.asked.append(asked)
        if self.error:
            raise self.error
        try:
            if self.hold is not None:
                await self.hold.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Verdict(outcome="passed", passed=total, total=total, seconds=0.125, note="ok \ud800")

    async def run_calls(self, program: str, suite: CallSuite, limits: Limits) -> Verdict:
        return await self._done(len(suite.tests), program, suite, limits)

    async def run_stdio(
        self, program: str, cases: Sequence[StdioCase], limits: Limits, *, every: bool = False
    ) -> Verdict:
        return await self._done(len(cases), program, tuple(cases), limits, every)

    async def run_checker(self, program: str, suite: CheckerSuite, limits: Limits) -> Verdict:
        return await self._done(1, program, suite, limits)

    async def run_query(self, query: str, database: bytes, limits: Limits) -> QueryResult:
        self.asked.append((query, database, limits))
        return QueryResult(outcome="passed", columns=("a",), rows=((b"\0\xff",), (2**62,), (float("inf"),), (None,)))

    def close(self) -> None:
        pass


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def wait_for(port: int) -> None:
    give_up = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert time.monotonic() < give_up
            time.sleep(0.02)


@contextmanager
def serving(sandbox: Echo, **settings: Any) -> Iterator[str]:
    """The app on a real port."""
    import uvicorn

    app = build_app(sandbox, ServeSettings(**settings))
    config = uvicorn.Config(app, port=free_port(), log_level="info", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(config.port)
    try:
        yield f"http://127.0.0.1:{config.port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Echo, str]]:
    sandbox = Echo()
    with serving(sandbox, token="s3cret", most_body_bytes=100_000, most_tests=5, body_limit_s=1.0) as url:
        yield sandbox, url


def post(url: str, path: str, **request: Any) -> httpx2.Response:
    headers = {"authorization": "Bearer s3cret", **request.pop("headers", {})}
    return httpx2.post(url + path, headers=headers, trust_env=False, **request)


def test_every_mode_crosses_unchanged(shared):
    sandbox, url = shared
    limits = Limits(wall_s=1.5, cpu_s=2.0, memory_bytes=2**28, output_bytes=10, result_bytes=20, scratch_bytes=30)
    cases = [StdioCase(stdin="1\r\n\0", stdout="é\ud800"), StdioCase(stdin="", stdout="")]
    program = "print('\ud800 ü \\ \" \x07')"

    async def main() -> list[Any]:
        remote = RemoteSandbox(url, token="s3cret")
        found = [
            await remote.run_calls(program, SUITE, limits),
            await remote.run_stdio(program, cases, Limits(), every=True),
            await remote.run_checker(program, CheckerSuite(tests="assert f", entry="f"), limits),
            await remote.run_query("select 1", b"SQLite\0\xff", limits),
            await remote.health(),
        ]
        await asyncio.to_thread(remote.close)
        return found

    sandbox.asked.clear()
    calls, stdio, checker, query, health = asyncio.run(main())
    assert sandbox.asked == [
        (program, SUITE, limits),
        (program, tuple(cases), Limits(), True),
        (program, CheckerSuite(tests="assert f", entry="f"), limits),
        ("select 1", b"SQLite\0\xff", limits),
    ]
    assert calls == Verdict(outcome="passed", passed=1, total=1, seconds=0.125, note="ok \ud800")
    assert (stdio.total, checker.total) == (2, 1)
    assert query.rows == ((b"\0\xff",), (2**62,), (float("inf"),), (None,))
    assert (health.kind, health.tier, health.slots, health.queue) == ("B", "B", 1, 1)


def test_left_out_keys_have_their_defaults(shared):
    sandbox, url = shared
    sandbox.asked.clear()
    reply = post(url, "/v1/calls", json={**CALLS, "limits": {"wall_s": 2}})
    assert reply.status_code == 200
    assert reply.headers["charter-sandbox-protocol"] == "1"
    assert sandbox.asked[0][2] == Limits(wall_s=2.0)


@pytest.mark.parametrize("path", ["/v1/health", "/v1/calls"])
@pytest.mark.parametrize("given", ["", "Bearer", "Bearer s3cre", "Bearer s3cret!", "Basic s3cret", "Bearer s3cr\xe9t"])
def test_without_the_token_nobody_gets_in(shared, path, given):
    sandbox, url = shared
    sandbox.asked.clear()
    headers = {"authorization": given.encode("latin-1")} if given else {}
    method = "GET" if path == "/v1/health" else "POST"
    reply = httpx2.request(method, url + path, headers=headers, trust_env=False)
    assert reply.status_code == 401
    assert reply.json() == {"error": "the token is missing or wrong"}
    assert sandbox.asked == []


BAD = {
    "no JSON": (b"{", 400, "the body is no JSON"),
    "nested": (b"[" * 90_000, 400, "the body is no JSON"),
    "a huge number": (b'{"program": ' + b"9" * 90_000 + b"}", 400, "the body is no JSON"),
    "a list": (b"[]", 422, "the body is no table"),
    "unknown key": ({**CALLS, "timeout": 3}, 422, "timeout: Extra inputs are not permitted"),
    "unknown limit": ({**CALLS, "limits": {"wall": 3}}, 422, "limits.wall: Extra inputs"),
    "missing key": ({"program": "p"}, 422, "tests: Field required"),
    "no tests": ({**CALLS, "tests": []}, 422, "tests: List should have at least 1 item"),
    "many tests": ({**CALLS, "tests": CALLS["tests"] * 6}, 422, "6 tests; this server runs up to 5"),
    "program of bytes": ({**CALLS, "program": 3}, 422, "program: Value error, not a text"),
    "limit of text": ({**CALLS, "limits": {"wall_s": "3"}}, 422, "limits.wall_s: Input should be a valid number"),
    "no time": ({**CALLS, "limits": {"wall_s": 0}}, 422, "limits.wall_s: Input should be greater than 0"),
    "infinite time": (b'{"program":"p","tests":[],"limits":{"wall_s":Infinity}}', 422, "limits.wall_s: Input should"),
    "too much time": ({**CALLS, "limits": {"wall_s": 61}}, 422, "limits.wall_s is 61 and this server grants 60"),
    "too much memory": ({**CALLS, "limits": {"memory_bytes": 10**30}}, 422, "limits.memory_bytes is huge"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_body_that_is_not_understood_is_refused_by_its_key(shared, name):
    sandbox, url = shared
    body, status, sentence = BAD[name]
    sandbox.asked.clear()
    content = body if isinstance(body, bytes) else json.dumps(body)
    reply = post(url, "/v1/calls", content=content, headers={"content-type": "application/json"})
    assert reply.status_code == status
    assert sentence in reply.json()["error"]
    assert sandbox.asked == []


def test_a_database_that_is_no_base64_is_refused(shared):
    reply = post(shared[1], "/v1/query", json={"query": "q", "database": "***"})
    assert (reply.status_code, reply.json()) == (422, {"error": "database: Value error, not base64"})
    assert post(shared[1], "/v1/query", json={"query": "q", "database": base64.b64encode(b"x").decode()}).is_success


@pytest.mark.parametrize(
    ("headers", "status", "sentence"),
    [
        ({"content-type": "text/plain"}, 415, "must be JSON"),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415, "must not be compressed"),
        ({"content-type": "application/json", "origin": "http://evil.example"}, 403, "not for browsers"),
        ({"content-type": "application/json", "charter-sandbox-protocol": "2"}, 400, "version 1 of the protocol"),
    ],
)
def test_headers_that_mean_something_else_are_refused(shared, headers, status, sentence):
    reply = post(shared[1], "/v1/calls", content=json.dumps(CALLS), headers=headers)
    assert reply.status_code == status
    assert sentence in reply.json()["error"]


def test_what_is_not_there_is_said_in_json(shared):
    assert post(shared[1], "/v1/nothing").json() == {"error": "Not Found"}
    assert post(shared[1], "/v1/health").json() == {"error": "Method Not Allowed"}


def raw(url: str, *parts: bytes) -> bytes:
    """Send parts over a plain connection and return the beginning of what comes back."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except OSError:
            pass  # it closed: the answer is there already
        received = b""
        try:
            while part := connection.recv(4096):  # head and body may come apart; the server closes after both
                received += part
        except OSError:
            pass
        return received


HEAD = b"POST /v1/calls HTTP/1.1\r\nhost: x\r\nauthorization: Bearer s3cret\r\ncontent-type: application/json\r\n"


def test_a_body_that_is_too_large_is_not_read(shared):
    announced = raw(shared[1], HEAD + b"content-length: 100001\r\n\r\n")
    assert b" 413 " in announced
    assert b"over 100000 bytes" in announced
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"  # 65,536 bytes: the second is too much
    assert b" 413 " in raw(shared[1], HEAD + b"transfer-encoding: chunked\r\n\r\n", chunk, chunk)


def test_a_body_that_does_not_arrive_is_not_waited_for(shared):
    started = time.monotonic()
    assert b" 408 " in raw(shared[1], HEAD + b"content-length: 100\r\n\r\n", b"{")
    assert time.monotonic() - started < 5


def test_a_full_queue_is_said_and_clients_that_wait_are_served():
    sandbox = Echo()
    sandbox.hold = asyncio.Event()

    async def main(url: str) -> None:
        async with httpx2.AsyncClient(trust_env=False, timeout=20) as client:
            first = [asyncio.ensure_future(client.post(url + "/v1/calls", json=CALLS)) for _ in range(3)]
            while (health := (await client.get(url + "/v1/health")).json())["waiting"] < 1:
                await asyncio.sleep(0.01)
            assert (health["running"], health["waiting"], len(sandbox.asked)) == (2, 1, 2)
            refused = await client.post(url + "/v1/calls", json=CALLS)
            assert refused.status_code == 429
            assert refused.headers["retry-after"] == "1"
            remote = RemoteSandbox(url)
            waiting = asyncio.ensure_future(remote.run_calls("p", SUITE, Limits()))
            await asyncio.sleep(0.2)
            release()
            assert [(await one).status_code for one in first] == [200, 200, 200]
            assert (await waiting).outcome == "passed"
            await asyncio.to_thread(remote.close)

    def release() -> None:
        assert sandbox.hold is not None
        event, sandbox.hold = sandbox.hold, None
        event._loop.call_soon_threadsafe(event.set)  # type: ignore[attr-defined]

    with serving(sandbox, slots=2, queue=1) as url:
        asyncio.run(main(url))


def test_a_client_that_leaves_takes_its_job_along():
    sandbox = Echo()
    sandbox.hold = asyncio.Event()

    async def main(url: str) -> None:
        remote = RemoteSandbox(url)
        job = asyncio.ensure_future(remote.run_calls("p", SUITE, Limits()))
        while not sandbox.asked:
            await asyncio.sleep(0.01)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        give_up = time.monotonic() + 5
        while not sandbox.cancelled and time.monotonic() < give_up:
            await asyncio.sleep(0.01)
        assert sandbox.cancelled == 1
        sandbox.hold = None
        assert (await remote.run_calls("p", SUITE, Limits())).outcome == "passed"  # its place is free again
        await asyncio.to_thread(remote.close)

    with serving(sandbox, slots=1, queue=0) as url:
        asyncio.run(main(url))


def test_no_program_is_logged_or_answered(capfd, caplog):
    secret = "the text of the program"
    with serving(Echo(error=ValueError(secret))) as url:
        reply = httpx2.post(url + "/v1/calls", json={**CALLS, "program": secret}, trust_env=False)
        assert (reply.status_code, reply.json()) == (500, {"error": "the sandbox failed with ValueError"})
        wrong = httpx2.post(url + "/v1/calls", json={"program": secret, "tests": secret}, trust_env=False)
        assert wrong.status_code == 422
        assert secret not in wrong.text
    out, err = capfd.readouterr()
    assert secret not in out + err + caplog.text


def test_a_jail_that_no_longer_holds_is_said():
    with serving(Echo(error=SandboxUnavailable("a program opened a socket"))) as url:
        remote = RemoteSandbox(url)
        verdict = asyncio.run(remote.run_calls("p", SUITE, Limits()))
        remote.close()
    assert verdict.outcome == "sandbox_error"
    assert "the sandbox no longer holds: a program opened a socket" in verdict.note


@pytest.mark.parametrize(
    ("host", "own"),
    [
        *((host, True) for host in ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost")),
        *((host, False) for host in ("0.0.0.0", "::", "", "10.0.0.1", "example.org", "localhost.example.org")),
    ],
)
def test_which_addresses_are_this_machine_only(host, own):
    assert is_loopback(host) is own


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "example.org"])
def test_other_machines_need_a_token(host):
    with pytest.raises(UsageError, match=r"give a token .* or listen on"):
        serve(Echo(), host=host)


def test_a_port_that_is_taken_is_said():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UsageError, match="cannot listen on"):
        serve(Echo(), port=taken.getsockname()[1])


@pytest.mark.parametrize("token", ["", "two words", "tab\t"])
def test_a_token_nobody_can_send_is_refused(token):
    with pytest.raises(UsageError, match="token"):
        ServeSettings(token=token)


SLOW = """
import asyncio, sys
from charter.sandbox import Verdict
from charter.sandbox.serve import serve

class Slow:
    kind, slots = "unsafe", 1
    async def run_calls(self, program, suite, limits):
        print("asked", flush=True)
        await asyncio.sleep(1.0)
        return Verdict(outcome="passed", passed=1, total=1, seconds=1.0)

serve(Slow(), port=int(sys.argv[1]), token="s3cret")
print("closed by its caller", flush=True)
"""


def test_a_signal_lets_running_programs_finish():
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, str(port)], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stdout is not None
        wait_for(port)
        remote = RemoteSandbox(f"http://127.0.0.1:{port}", token="s3cret")

        async def main() -> Verdict:
            job = asyncio.ensure_future(remote.run_calls("p", SUITE, Limits()))
            assert await asyncio.to_thread(process.stdout.readline) == "asked\n"
            process.send_signal(signal.SIGTERM)
            return await job

        assert asyncio.run(main()) == Verdict(outcome="passed", passed=1, total=1, seconds=1.0)
        remote.close()
        assert process.stdout.read() == "closed by its caller\n"
    assert process.returncode == 0
