"""A server for a sandbox: `charter sandbox serve`.

    serve(open_sandbox("auto"), token="…")          blocks until SIGINT or SIGTERM
    build_app(sandbox, ServeSettings(…))            the ASGI app alone

It runs whatever it is sent, in the sandbox it was given, for whoever knows the token; it never logs a program.

Not here: the client (`remote.py`), the bodies (`serve_bodies.py`). The protocol: docs/sandbox_protocol.md.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from charter.errors import MissingExtra, UsageError
from charter.sandbox.job import Limits, Sandbox
from charter.sandbox.serve_settings import ServeSettings
from charter.sandbox.wire import TOKEN_VARIABLE

if TYPE_CHECKING:
    from starlette.applications import Starlette

PORT = 8711


def build_app(sandbox: Sandbox, settings: ServeSettings) -> Starlette:
    """The ASGI app over a sandbox. Raises: MissingExtra without starlette."""
    _need("starlette")
    from charter.sandbox.serve_app import App

    return App(sandbox, settings).starlette()


def serve(
    sandbox: Sandbox,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    token: str | None = None,
    slots: int | None = None,
    queue: int | None = None,
    most: Limits | None = None,
    self_test_s: float | None = None,
    grace_s: float = 30.0,
) -> None:
    """Serve a sandbox until SIGINT or SIGTERM. The sandbox stays the caller's to close.

    host, port: where to listen; an address other machines reach needs a token.
    token: what clients must send; left out, CHARTER_SANDBOX_TOKEN, or none.
    slots, queue: programs at a time (default: the sandbox's own `slots`, else 1), and requests that may wait beside
    them (default: as many again). most: the largest limits granted. self_test_s: duration of the self-test, for
    health. grace_s: time that running requests get to finish after the signal (seconds).

    Raises: MissingExtra, UsageError.
    """
    _need("starlette")
    _need("uvicorn")
    token = token if token is not None else os.environ.get(TOKEN_VARIABLE) or None
    if token is None and not is_loopback(host):
        raise UsageError(
            f"{host!r} can be reached from other machines, and whoever reaches it runs programs here: "
            f"give a token (or set {TOKEN_VARIABLE}), or listen on 127.0.0.1"
        )
    import uvicorn

    places: int = slots or getattr(sandbox, "slots", 1)
    settings = ServeSettings(
        token=token,
        slots=places,
        queue=places if queue is None else queue,
        most=most or ServeSettings().most,
        self_test_s=self_test_s,
    )
    app = build_app(sandbox, settings)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", ws="none", server_header=False,
        timeout_keep_alive=60, timeout_graceful_shutdown=max(1, round(grace_s)),
    )  # fmt: skip
    with _listen(host, port) as listening, _signals_end_quietly():
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    bare = host.strip("[]")
    try:
        family = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((bare, port), family=family, backlog=512)
        # inherited by every connection; without it each answer waits 40 ms for the acknowledgement of its headers
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except (OSError, OverflowError) as error:
        raise UsageError(f"cannot listen on {host}:{port}: {error}. Give another host or port") from None


@contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """uvicorn raises the signal that ended it once more when it is done; here it has then had its effect."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine only; names other than localhost are not trusted."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _need(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingExtra(package, "serve", "serving a sandbox")
