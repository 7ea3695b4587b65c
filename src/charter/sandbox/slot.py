"""A slot: one program at a time, the fork servers it needs, and their replacement when one is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from charter.errors import SandboxUnavailable
from charter.sandbox.job import Limits
from charter.sandbox.launch import Server, Walls, start
from charter.sandbox.process import Process, ServerGone

T = TypeVar("T")


class Slot:
    """number: chooses the user ids of its children when the trainer is root."""

    def __init__(self, walls: Walls, number: int) -> None:
        self._walls = walls
        self._number = number
        self._servers: dict[str, Server] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._work: object = None
        self._given_up = False

    def program(
        self, limits: Limits, payload: bytes, *, keep_input: bool = False, wants_output: bool = False
    ) -> Process:
        """Start a jailed program. Raises: ServerGone, SandboxUnavailable."""
        control = self._server("program", limits.scratch_bytes).control
        return Process(control, limits, payload, keep_input=keep_input, wants_output=wants_output)

    def checker(
        self, limits: Limits, payload: bytes, *, keep_input: bool = False, wants_output: bool = False
    ) -> Process:
        """Start a jailed checker, beside the program, from a server of its own. Raises: as `program`."""
        control = self._server("checker").control
        return Process(control, limits, payload, keep_input=keep_input, wants_output=wants_output)

    def _server(self, role: str, scratch_bytes: int = 0) -> Server:
        with self._lock:
            if self._closed:
                raise ServerGone("the sandbox was closed")
            if scratch_bytes:
                role = "scratch"
                if used := self._servers.pop(role, None):  # what the job before wrote goes with it
                    used.stop()
            checks = role == "checker"
            if role not in self._servers:
                self._servers[role] = start(
                    self._walls, 2 * self._number + checks, checks=checks, scratch_bytes=scratch_bytes
                )
            return self._servers[role]

    def attempt(self, work: Callable[[Slot], T], failed: Callable[[str], T]) -> T:
        """Do some work with this slot. When a server is gone (killed from outside, out of memory) it is replaced and
        the work done once more; after that, and for every other fault of the sandbox, the answer is `failed(cause)`."""
        with self._lock:
            self._work, self._given_up = work, False
        try:
            return self._attempt(work, failed)
        finally:
            with self._lock:
                self._work = None

    def _attempt(self, work: Callable[[Slot], T], failed: Callable[[str], T]) -> T:
        for last in (False, True):
            try:
                return work(self)
            except (ServerGone, OSError) as error:
                self._drop()
                if last or self._closed or self._given_up:
                    return failed(f"{error}")
            except SandboxUnavailable as error:
                return failed(f"{error}")
            except BaseException:
                self._drop()  # a child may still be running
                raise
        raise AssertionError("unreachable")

    def _drop(self) -> None:
        with self._lock:
            servers, self._servers = list(self._servers.values()), {}
        for server in servers:
            server.stop()

    def give_up(self, work: object) -> None:
        """Stop this work, from another thread, if it is what the slot is doing: its servers are killed and replaced."""
        with self._lock:
            if self._work is work:
                self._given_up = True
                for server in self._servers.values():
                    server.process.kill()

    def interrupt(self) -> None:
        """Kill the servers from another thread; work in progress fails."""
        with self._lock:
            self._closed = True
            for server in self._servers.values():
                server.process.kill()

    def close(self) -> None:
        """Let go of everything; no thread may be using the slot."""
        with self._lock:
            self._closed = True
        self._drop()
