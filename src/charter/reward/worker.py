"""The child process in which rewards run: `python -m charter.reward.worker PARENT_PID`.

It is started clean (never forked from the trainer), imports no torch of its own accord, does one thing at a time and
may be killed at any moment. The first message sets it up (which task, which options), every further one is a piece of
work. Standard output of user code goes to standard error: the channel to the trainer is a private descriptor.

Two things end it when the trainer is gone: Linux kills it (PR_SET_PDEATHSIG), and everywhere a reading thread leaves
when standard input closes.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from charter.reward.frames import encode, read_frame

Handler = Callable[[Mapping[str, Any]], Any]
TASKS: Mapping[str, str] = {
    "math": "charter.reward.math_answer:open_judge",
    "regex": "charter.reward.text_pattern:open_judge",
    "schema": "charter.reward.schema_answer:open_judge",
    "tool_call": "charter.reward.tool_answer:open_judge",
    "csv": "charter.reward.csv_answer:open_judge",
    "reasoning_gym": "charter.reward.gym_scorer:open_judge",
    "function": "charter.reward.call:open_function",
}
"""Task → the function that takes its options and returns (handler of one piece of work, facts for the trainer)."""

MEMORY_BYTES = 4 * 1024**3
"""Address space of a worker that parses model-written text; a user's function has no such limit."""
_PR_SET_PDEATHSIG = 1


def die_with(parent_pid: int) -> None:
    """Ask Linux to kill this process when the thread that started it ends; elsewhere the closing pipe must do."""
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before the request above took hold
        os._exit(0)


def limit_memory(limit_bytes: int) -> None:
    """Bound the address space, so that hostile text exhausts this process and not the machine."""
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))


def describe_error(error: BaseException) -> str:
    """The exception in one line, with the place it came from; one that is `plain` is a sentence already."""
    if getattr(error, "plain", False):
        return str(error)
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception's own __str__ is user code
        text = "(its message cannot be printed)"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""
    name = type(error).__name__
    line = f"{name}: {text}" if text else name
    return " ".join(line.split())[:600] + place


def private_channel() -> tuple[int, int]:
    """Move the channel off descriptors 0 and 1, which user code then shares with /dev/null and standard error."""
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace", line_buffering=True)
    return requests, replies


def serve(messages: queue.SimpleQueue[Mapping[str, Any]], reply: Callable[[object], None]) -> None:
    """Answer messages one by one, for ever."""
    handler: Handler | None = None
    while True:
        message = messages.get()
        try:
            if message["op"] == "setup":
                if message.get("bounded", False):
                    limit_memory(MEMORY_BYTES)
                module, _, name = TASKS[message["task"]].partition(":")
                handler, result = getattr(importlib.import_module(module), name)(message["options"])
            elif handler is None:
                raise RuntimeError("work arrived before the set-up")
            else:
                result = handler(message["payload"])
            answer = encode({"ok": True, "result": result})
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt of user code are its failures
            answer = encode({"ok": False, "error": describe_error(error), "kind": type(error).__name__})
        reply(answer)


def main() -> None:
    """Set the process up and serve until the trainer hangs up."""
    die_with(int(sys.argv[1]))
    requests, replies = private_channel()
    messages: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()

    def listen() -> None:
        with os.fdopen(requests, "rb") as stream:
            while (message := read_frame(stream)) is not None:
                messages.put(message)
        os._exit(0)

    threading.Thread(target=listen, daemon=True, name="charter-requests").start()
    stream = os.fdopen(replies, "wb")

    def reply(frame: object) -> None:
        assert isinstance(frame, bytes)
        try:
            stream.write(frame)
            stream.flush()
        except OSError:
            os._exit(0)

    serve(messages, reply)


if __name__ == "__main__":
    main()
