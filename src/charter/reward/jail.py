"""The sandbox of a reward: named by its options, opened once, closed once.

It is opened when it is first needed, or before a run by `prove`, so that what cannot be had is told before anything is
sampled.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charter.sandbox.job import Sandbox

URL_HELP = 'Address of the server, for sandbox = "remote"; left out, CHARTER_SANDBOX_URL.'


def check_address(kind: str, url: str | None) -> None:
    """Raise ValueError for an address that the kind of sandbox has no use for."""
    if url is not None and kind != "remote":
        raise ValueError(f'the url is of a server, and sandbox is "{kind}". Set sandbox = "remote", or leave url out')


class Jail:
    """Where a reward runs what a model wrote.

    kind, url: as the options name them. sandbox: one that is there already.
    """

    def __init__(self, kind: str, url: str | None = None, sandbox: Sandbox | None = None) -> None:
        self.kind = kind
        self._url = url
        self._sandbox = sandbox
        self._closed = False
        self._lock = threading.Lock()  # not asyncio's: a reward may be used from one event loop after another

    async def get(self) -> Sandbox:
        """The sandbox. Raises: SandboxUnavailable, UsageError, MissingExtra when there is none to be had."""
        return self._sandbox or await asyncio.to_thread(self._open)

    async def prove(self) -> None:
        """Open it and see that it answers. Raises: as `get`."""
        sandbox = await self.get()
        if self.kind == "remote":
            from charter.sandbox.remote import RemoteSandbox

            if isinstance(sandbox, RemoteSandbox):
                await sandbox.health()

    def _open(self) -> Sandbox:
        with self._lock:
            if self._closed:
                raise RuntimeError("the reward was closed")
            if self._sandbox is None:
                from charter.sandbox import open_sandbox

                address: dict[str, Any] = {"url": self._url} if self.kind == "remote" else {}
                self._sandbox = open_sandbox(self.kind, **address)
            return self._sandbox

    def close(self) -> None:
        """Let go of the sandbox, also of one that is being opened."""
        with self._lock:
            self._closed = True
            if self._sandbox is not None:
                self._sandbox.close()
