"""The client of a sandbox server, against servers that answer, delay, fail and lie."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.errors import SandboxUnavailable, UsageError
from charter.sandbox import CallSuite, CallTest, CheckerSuite, Limits, StdioCase, Verdict, remote_http
from charter.sandbox.job import QueryResult, Sandbox
from charter.sandbox.remote import RemoteSandbox
from charter.sandbox.wire import LONGEST_NOTE, MOST_VERDICT_BYTES, WireError, read_verdict, verdict_body
from charter.sandbox.wire_query import read_result, result_body

SUITE = CallSuite(tests=(CallTest(source="assert f(2) == 4", calls=("f(2)",), check="_0 == 4"),))
LIMITS = Limits(wall_s=0.5)
GOOD = {"outcome": "passed", "passed": 1, "total": 1, "seconds": 0.25, "note": ""}
PASSED = Verdict(outcome="passed", passed=1, total=1, seconds=0.25)
HEALTH = {"protocol": 1, "kind": "B", "tier": "B", "slots": 2, "queue": 2, "self_test_s": 1.5}


def answer(body: object, status: str = "200 OK", *headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(content)}", "connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


class Scripted:
    """A server that gives each POST the next of its answers (bytes, or seconds to wait first); b"" drops it."""

    def __init__(self, *answers: object, health: bytes) -> None:
        self.answers, self.health = list(answers), health
        self.requests: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            with connection:
                connection.settimeout(10)
                request = self._read(connection)
                if request == b"stop":
                    return
                if request:
                    with contextlib.suppress(OSError):  # a client that left
                        connection.sendall(self._next(request))

    @staticmethod
    def _read(connection: socket.socket) -> bytes:
        """A whole request; b"" from a client that left before."""
        data = b""
        wanted = math.inf
        while len(data) < wanted:
            part = connection.recv(65536)
            data += part
            if data == b"stop" or not part:
                return data if data == b"stop" else b""
            head, end, _ = data.partition(b"\r\n\r\n")
            if end:
                lengths = [
                    line.split(b":")[1] for line in head.split(b"\r\n") if line.lower()[:15] == b"content-length:"
                ]
                wanted = len(head) + 4 + int(lengths[0] if lengths else 0)
        return data

    def _next(self, request: bytes) -> bytes:
        if request.startswith(b"GET"):
            return self.health
        self.requests.append(request)
        given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(given, float):
            time.sleep(given)
            return b""
        assert isinstance(given, bytes)
        return given

    def stop(self) -> None:
        with socket.create_connection(self._listening.getsockname()) as connection:
            connection.sendall(b"stop")
        self._thread.join()
        self._listening.close()


@contextmanager
def scripted(*answers: object, health: bytes | None = None) -> Iterator[Scripted]:
    server = Scripted(*answers, health=answer({"error": "no such page"}, "404 Not Found") if health is None else health)
    try:
        yield server
    finally:
        server.stop()


def ask(url: str, *, timeout_s: float = 10.0, limits: Limits = LIMITS) -> Verdict:
    sandbox = RemoteSandbox(url, timeout_s=timeout_s)
    try:
        return asyncio.run(sandbox.run_calls("def f(x): return 2 * x", SUITE, limits))
    finally:
        sandbox.close()


def test_a_verdict_arrives_as_it_was_given():
    with scripted(answer(GOOD)) as server:
        assert ask(server.url) == PASSED
    (request,) = server.requests
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/calls HTTP/1.1\r\n")
    assert b"charter-sandbox-protocol: 1" in head.lower()
    assert b"authorization" not in head.lower()
    assert json.loads(body) == {
        "program": "def f(x): return 2 * x",
        "tests": [{"source": "assert f(2) == 4", "calls": ["f(2)"], "check": "_0 == 4"}],
        "setup": "",
        "limits": {
            "wall_s": 0.5, "cpu_s": None, "memory_bytes": 2**29, "output_bytes": 2**20, "result_bytes": 2**20,
            "scratch_bytes": 0,
        },
    }  # fmt: skip


def test_the_token_is_sent_and_a_path_before_v1_kept():
    with scripted(answer(GOOD)) as server:
        sandbox = RemoteSandbox(server.url + "/prefix/", token="s3cret")
        asyncio.run(sandbox.run_calls("x", SUITE, LIMITS))
        sandbox.close()
    assert server.requests[0].startswith(b"POST /prefix/v1/calls ")
    assert b"authorization: bearer s3cret" in server.requests[0].lower()


def test_address_and_token_may_come_from_the_environment(monkeypatch):
    with pytest.raises(UsageError, match="give a url, or set CHARTER_SANDBOX_URL"):
        RemoteSandbox()
    with scripted(answer(GOOD)) as server:
        monkeypatch.setenv("CHARTER_SANDBOX_URL", server.url)
        monkeypatch.setenv("CHARTER_SANDBOX_TOKEN", "from-outside")
        for sandbox in (RemoteSandbox(), RemoteSandbox(token="given")):
            assert asyncio.run(sandbox.run_calls("x", SUITE, LIMITS)) == PASSED
            sandbox.close()
    assert [b"bearer from-outside" in r.lower() for r in server.requests] == [True, False]
    assert b"bearer given" in server.requests[1].lower()


LIES = {
    "HTML": (answer(b"<html>welcome to the hotel</html>"), "no JSON: '<html>welcome"),
    "torn JSON": (answer(b'{"outcome": "passed"'), "no JSON"),
    "half a body": (answer(GOOD)[:-10], "half an answer"),
    "not a table": (answer([GOOD]), "a list and not a table"),
    "a missing key": (answer({k: v for k, v in GOOD.items() if k != "note"}), "no key note"),
    "an unknown key": (answer({**GOOD, "score": 1}), "the unknown key score"),
    "an unknown outcome": (answer({**GOOD, "outcome": "splendid"}), "the outcome 'splendid'"),
    "an outcome of another type": (answer({**GOOD, "outcome": ["passed"]}), "the outcome ['passed']"),
    "more passed than there are": (answer({**GOOD, "passed": 2}), "2 tests passed of 1"),
    "fewer tests than were sent": (answer({**GOOD, "total": 0, "passed": 0}), "over 0 tests where 1 were sent"),
    "more tests than were sent": (answer({**GOOD, "total": 2, "passed": 2}), "over 2 tests where 1 were sent"),
    "passed without passing": (answer({**GOOD, "passed": 0}), "'passed' with 0 of 1"),
    "failed with all passed": (answer({**GOOD, "outcome": "failed"}), "'failed' with 1 of 1"),
    "a negative number": (answer({**GOOD, "outcome": "failed", "passed": -1}), "passed = -1"),
    "true for one": (answer({**GOOD, "passed": True}), "passed = True"),
    "one point nought": (answer({**GOOD, "total": 1.0}), "total = 1.0"),
    "a huge number": (answer({**GOOD, "passed": 10**30}), "passed"),
    "time that is no number": (answer(json.dumps({**GOOD, "seconds": math.nan}).encode()), "no JSON"),
    "negative time": (answer({**GOOD, "seconds": -1.0}), "seconds = -1.0"),
    "a long note": (answer({**GOOD, "note": "a" * (LONGEST_NOTE + 1)}), "a note that is no text"),
    "nesting": (answer(b"[" * 50_000), "no JSON"),
    "endless bytes": (answer(b" " * (MOST_VERDICT_BYTES + 1) + b"{}"), f"more than {MOST_VERDICT_BYTES} bytes"),
    "compression": (answer(GOOD, "200 OK", "content-encoding: gzip"), "an encoding it was not asked for"),
    "a newer protocol": (answer(GOOD, "200 OK", "charter-sandbox-protocol: 2"), "version '2' of the protocol"),
    "a redirect": (answer(b"", "302 Found", "location: http://127.0.0.1:9/"), "302"),
    "a failure": (answer({"error": "the sandbox failed with OSError"}, "500 No"), "500: the sandbox failed with OSErr"),
    "no permission": (answer({"error": "the token is wrong"}, "401 No"), "401: the token is wrong"),
}


@pytest.mark.parametrize("name", LIES)
def test_whatever_is_no_verdict_is_an_error_of_the_sandbox_at_once(name):
    given_answer, sentence = LIES[name]
    with scripted(given_answer) as server:
        verdict = ask(server.url)
    assert (verdict.outcome, verdict.passed, verdict.total) == ("sandbox_error", 0, 1)
    assert server.url in verdict.note
    assert sentence in verdict.note
    assert len(server.requests) == 1  # asked once: another attempt would not help


@pytest.mark.parametrize(
    "passing",
    [
        b"",
        answer({"error": "full"}, "429 Too Many Requests", "retry-after: 0"),
        answer({"error": "full"}, "429 Too Many Requests"),
        answer(b"<html>", "503 Unavailable", "retry-after: soon"),
    ],
    ids=["dropped", "full", "full, no time", "unavailable"],
)
def test_what_passes_is_tried_again(passing):
    with scripted(passing, passing, answer(GOOD)) as server:
        assert ask(server.url) == PASSED
    assert len(server.requests) == 3
    assert len({request.partition(b"\r\n\r\n")[2] for request in server.requests}) == 1


def test_a_server_that_stays_full_is_given_up_at_the_deadline():
    with scripted(answer({"error": "every slot is taken"}, "429 Full", "retry-after: 0.05")) as server:
        started = time.monotonic()
        verdict = ask(server.url, timeout_s=0.5)
    assert verdict.outcome == "sandbox_error"
    assert "every slot is taken" in verdict.note
    # the deadline: 0.5 s of work and 0.5 s of slack
    assert 0.3 < time.monotonic() - started < 4
    assert len(server.requests) > 3


def test_a_server_that_does_not_answer_is_given_up_at_the_deadline():
    with scripted(2.0) as server:
        started = time.monotonic()
        verdict = ask(server.url, timeout_s=0.3, limits=replace(LIMITS, wall_s=0.2))
        assert time.monotonic() - started < 1.9
    assert verdict.outcome == "sandbox_error"
    assert "gave no answer in 0.5 s" in verdict.note


def test_a_server_that_trickles_is_given_up_at_the_deadline():
    def trickle(listening: socket.socket) -> None:
        for _ in range(2):  # health, then the job
            connection, _ = listening.accept()
            with connection:
                request = connection.recv(65536)
                if request.startswith(b"GET"):
                    connection.sendall(answer({}, "404 No"))
                    continue
                try:
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
                    for _ in range(100):
                        connection.sendall(b" ")
                        time.sleep(0.05)
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=trickle, args=(listening,))
        thread.start()
        verdict = ask(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout_s=0.5)
        thread.join()
    assert verdict.outcome == "sandbox_error"
    assert "gave no answer in 1 s" in verdict.note


def test_no_server_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setattr(remote_http, "MOST_FAILURES", 3)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    verdict = ask(url)
    assert verdict.outcome == "sandbox_error"
    assert f"no connection to the sandbox server {url}: ConnectError" in verdict.note
    assert "(3 attempts)" in verdict.note


def test_no_more_requests_run_than_the_server_has_room_for():
    """Slots 2 and queue 1: with 12 jobs at once, at most 3 requests are open."""
    open_now = most = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):
            writer.write(answer({**HEALTH, "slots": 2, "queue": 1}))
        else:
            open_now += 1
            most = max(most, open_now)
            await asyncio.sleep(0.02)
            open_now -= 1
            writer.write(answer(GOOD))
        await writer.drain()
        writer.close()

    async def main() -> list[Verdict]:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            sandbox = RemoteSandbox(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            jobs = [sandbox.run_calls("x", SUITE, LIMITS) for _ in range(12)]
            verdicts = await asyncio.gather(*jobs)
            await asyncio.to_thread(sandbox.close)
            return verdicts

    assert asyncio.run(main()) == [PASSED] * 12
    assert most == 3


def test_health_is_read_or_refused():
    def health(page: bytes) -> object:
        with scripted(b"", health=page) as server:
            sandbox = RemoteSandbox(server.url, timeout_s=2.0)
            try:
                return asyncio.run(sandbox.health())
            finally:
                sandbox.close()

    found = health(answer(HEALTH))
    assert (found.kind, found.tier, found.slots, found.queue, found.self_test_s) == ("B", "B", 2, 2, 1.5)
    assert health(answer({**HEALTH, "news": 1})).slots == 2  # health may grow within a version
    for page, sentence in [
        (answer({**HEALTH, "protocol": 2}), "speaks version 2 of the protocol and this client version 1"),
        (answer({**HEALTH, "slots": 0}), "slots or queue"),
        (answer({**HEALTH, "tier": 1}), "kind or tier"),
        (answer({**HEALTH, "self_test_s": -1}), "self_test_s"),
        (answer(b"ok"), "no JSON"),
        (answer({"error": "no"}, "401 No"), "401: no"),
    ]:
        with pytest.raises(SandboxUnavailable, match=sentence):
            health(page)


def test_one_sandbox_serves_many_event_loops_and_closes_for_good():
    with scripted(answer(GOOD)) as server:
        sandbox = RemoteSandbox(server.url)
        assert [asyncio.run(sandbox.run_calls("x", SUITE, LIMITS)) for _ in range(3)] == [PASSED] * 3
        sandbox.close()
        sandbox.close()
        after = asyncio.run(sandbox.run_calls("x", SUITE, LIMITS))
    assert (after.outcome, after.note) == ("sandbox_error", "the remote sandbox was closed")
    assert len(server.requests) == 3


def test_closing_ends_what_runs():
    async def main(sandbox: RemoteSandbox) -> Verdict:
        running = asyncio.ensure_future(sandbox.run_calls("x", SUITE, LIMITS))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(sandbox.close)
        return await running

    with scripted(2.0) as server:
        started = time.monotonic()
        verdict = asyncio.run(main(RemoteSandbox(server.url)))
        assert time.monotonic() - started < 1.9
    assert (verdict.outcome, verdict.note) == ("sandbox_error", "the remote sandbox was closed")


@pytest.mark.parametrize(
    "url", ["/", "127.0.0.1:8711", "ftp://host", "http://", "http://host:x", "http://me:pw@host", "http://host?a=b"]
)
def test_an_address_that_cannot_be_used_is_refused(url):
    with pytest.raises(UsageError, match="is no address of a sandbox server"):
        RemoteSandbox(url)


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "schlüssel"])
def test_a_token_that_cannot_be_sent_is_refused(token):
    with pytest.raises(UsageError, match="token"):
        RemoteSandbox("http://127.0.0.1:8711", token=token)


def test_it_is_a_sandbox():
    sandbox = RemoteSandbox("http://127.0.0.1:8711")
    assert isinstance(sandbox, Sandbox)
    assert sandbox.kind == "remote"
    sandbox.close()


def test_every_mode_has_its_page_and_its_deadline():
    pages: list[tuple[str, float]] = []

    def noting(original: Callable) -> Callable:
        async def post(path: str, body: dict, most_bytes: int, limit_s: float) -> object:
            pages.append((path, limit_s))
            return await original(path, body, most_bytes, limit_s)

        return post

    query = {"outcome": "passed", "columns": ["n"], "rows": [[1]], "note": ""}
    two = {**GOOD, "passed": 3, "total": 3}
    with scripted(answer(two), answer({**GOOD, "total": 7, "passed": 7}), answer(query)) as server:
        sandbox = RemoteSandbox(server.url, timeout_s=20.0)
        sandbox._exchange.post = noting(sandbox._exchange.post)

        async def main() -> tuple[Verdict, Verdict, QueryResult]:
            cases = [StdioCase(stdin=str(n), stdout=str(n)) for n in range(3)]
            return (
                await sandbox.run_stdio("p", cases, LIMITS, every=True),
                await sandbox.run_checker("p", CheckerSuite(tests="t", entry="f"), LIMITS),
                await sandbox.run_query("select 1", b"db", LIMITS),
            )

        stdio, checker, found = asyncio.run(main())
        sandbox.close()
    assert (stdio.total, checker.total) == (3, 7)
    assert found == QueryResult(outcome="passed", columns=("n",), rows=((1,),))
    # wall_s is 0.5: three executions; two processes; one query; each with 20 s beside
    assert pages == [("/v1/stdio", 21.5), ("/v1/checker", 21.0), ("/v1/query", 20.5)]
    bodies = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in server.requests]
    assert bodies[0]["every"] is True
    assert bodies[1]["entry"] == "f"
    assert bodies[2]["database"] == "ZGI="  # base64 of b"db"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = ("outcome", "passed", "total", "seconds", "note")


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries({k: JSON | st.sampled_from(["passed", "failed", 0, 1, 2, 0.5]) for k in KEYS}) | JSON)
def test_any_json_is_a_possible_verdict_or_a_wire_error(body):
    try:
        verdict = read_verdict(body, total=None)
    except WireError:
        return
    assert 0 <= verdict.passed <= verdict.total
    assert verdict.outcome != "passed" or verdict.passed == verdict.total > 0
    assert 0 <= verdict.seconds < math.inf
    assert read_verdict(verdict_body(verdict), total=verdict.total) == verdict


CELL = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5)
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(CELL, CELL), max_size=4))
def test_rows_cross_unchanged(rows):
    result = QueryResult(outcome="passed", columns=("a", "a"), rows=tuple(rows), note="n")
    crossed = read_result(json.loads(json.dumps(result_body(result), allow_nan=False)))
    assert crossed == result
    assert [[type(cell) for cell in row] for row in crossed.rows] == [[type(cell) for cell in row] for row in rows]


@pytest.mark.parametrize(
    "body",
    [
        None,
        {"outcome": "passed", "columns": [], "rows": []},
        {"outcome": "good", "columns": [], "rows": [], "note": ""},
        {"outcome": "failed", "columns": ["a"], "rows": [[1]], "note": ""},
        {"outcome": "passed", "columns": ["a"], "rows": [[1, 2]], "note": ""},
        {"outcome": "passed", "columns": ["a"], "rows": [[True]], "note": ""},
        {"outcome": "passed", "columns": ["a"], "rows": [[[1]]], "note": ""},
        {"outcome": "passed", "columns": ["a"], "rows": [[2**60]], "note": ""},
        {"outcome": "passed", "columns": ["a"], "rows": [[{"integer": str(2**63)}]], "note": ""},
        {"outcome": "passed", "columns": ["a"], "rows": [[{"integer": "٣"}]], "note": ""},
        {"outcome": "passed", "columns": ["a"], "rows": [[{"bytes": "*"}]], "note": ""},
        {"outcome": "passed", "columns": ["a"], "rows": [[{"real": "1.0"}]], "note": ""},
    ],
)
def test_what_no_query_finds_is_refused(body):
    with pytest.raises(WireError):
        read_result(body)
