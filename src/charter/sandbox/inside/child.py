"""What a jailed child does: say that it is jailed, read its job, do it, leave.

Whatever a program does to this module's names or descriptors can only change what the program answers, and the judge
is elsewhere. Nothing here decides a verdict, except in the checker, which runs no model text.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import sys
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import Any, NoReturn

from . import codec, query

Receive = Callable[[], Any]
Send = Callable[[object], None]
extra_modes: dict[str, Callable[[dict[str, Any], Send, Receive], None]] = {}
"""Modes that not every fork server has; what they need would make every fork of the others dearer."""
JAILED = b"J"
UNCONFINED = b"E"
_LONGEST_MESSAGE = 300


def send(message: object) -> None:
    """Write one frame to the judge."""
    view = memoryview(codec.pack(message))
    while view:
        view = view[os.write(3, view) :]


def receive() -> Any | None:
    """Read one frame from standard input, or None at its end."""
    header = _exactly(codec.HEADER.size)
    if header is None:
        return None
    body = _exactly(codec.HEADER.unpack(header)[0])
    return None if body is None else codec.unpack(body)


def _exactly(count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        part = os.read(0, min(count - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)


def work() -> NoReturn:
    """Do the job that standard input holds, and end the process."""
    job = receive()
    if job is None:
        os._exit(3)
    match job["mode"]:
        case "stdio":
            _run_whole(job["program"])
        case "calls":
            _close_input()
            _answer_calls(job)
        case "serve":
            _serve_calls(job)
        case "query":
            query.run(job, send)
        case other:
            extra_modes[other](job, send, receive)
    os._exit(0)


def _close_input() -> None:
    os.dup2(2, 0)  # descriptor 2 is the null device


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as a message: type, text, and whether it was the jail that said no."""
    error.__traceback__ = None  # frees what a MemoryError could not find room beside
    denied = isinstance(error, OSError) and error.errno in (errno.EPERM, errno.EACCES)
    try:
        text = str(error)[:_LONGEST_MESSAGE]
    except BaseException:  # noqa: BLE001 - its __str__ is the program's
        text = ""
    name = type(error).__name__
    return {"raised": [name if type(name) is str else "?", text, denied]}


def _compiled(source: str, name: str) -> CodeType:
    return compile(source, name, "exec", dont_inherit=True)


def _module(name: str) -> ModuleType:
    """An empty module under its name, as dataclasses, pickle and typing expect a program to live in one."""
    module = ModuleType(name)
    sys.modules[name] = module
    return module


def _run_whole(program: str) -> NoReturn:
    """A program as `python solution.py` would run it, standard input and output connected."""
    sys.argv = ["solution.py"]
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    main = _module("__main__")
    code = 0
    try:
        exec(_compiled(program, "solution.py"), main.__dict__)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException as error:  # noqa: BLE001 - whatever a program raises ends it
        code = 1
        send(describe(error))
    if "threading" in sys.modules:
        with contextlib.suppress(BaseException):
            sys.modules["threading"]._shutdown()  # as the interpreter does when it ends: waits for threads
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001
        code = code or 1
    os._exit(code & 0xFF)


def _load(job: dict[str, Any]) -> dict[str, Any] | None:
    """The namespace of a program made of functions, or None after its failure was reported."""
    sys.argv = ["solution.py"]
    module = _module("solution")
    for part, name in (("program", "solution.py"), ("setup", "tests.py")):
        try:
            exec(_compiled(job.get(part, ""), name), module.__dict__)
        except BaseException as error:  # noqa: BLE001
            send({**describe(error), "in": part})
            return None
    send({"loaded": True})
    return module.__dict__


def _answer(evaluate: Any) -> dict[str, Any]:
    try:
        return {"ok": codec.encode(evaluate())}
    except BaseException as error:  # noqa: BLE001
        return describe(error)


def _answer_calls(job: dict[str, Any]) -> None:
    """Evaluate each expression in the program's namespace and send its value, one frame each."""
    names = _load(job)
    if names is None:
        return
    for expression in job["calls"]:
        send(_answer(lambda expression=expression: eval(compile(expression, "call", "eval"), names)))


def _serve_calls(job: dict[str, Any]) -> None:
    """Call functions by name for a checker, until it has no more."""
    names = _load(job)
    while names is not None and (asked := receive()) is not None:
        send(_call(names, asked))


def _call(names: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    def evaluate() -> Any:
        return names[asked["call"]](*arguments, **keywords)

    if asked["call"] not in names:
        return {"raised": ["NameError", f"the program defines no {asked['call']!r}", False]}
    arguments, keywords = codec.decode(asked["args"]), codec.decode(asked["kwargs"])
    reply = _answer(evaluate)
    with contextlib.suppress(ValueError):
        after = [codec.encode(argument) for argument in arguments]
        if after != asked["args"]:
            reply["args"] = after
    return reply
