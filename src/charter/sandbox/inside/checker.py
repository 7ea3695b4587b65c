"""Test code of any form, run against a program that is somewhere else.

The tests are the data set's. Every name they use and do not define is a proxy: calling it sends the arguments to the
program's own jail and waits for the value. `import solution` and `from solution import f` give the same proxies.
"""

from __future__ import annotations

import asyncio
import builtins
import inspect
import sys
import unittest
from collections.abc import Callable, Iterator
from types import CodeType, ModuleType
from typing import Any

from . import codec

Send = Callable[[object], None]
Receive = Callable[[], Any]


class _Link:
    """The way to the program. calls: how many were made."""

    def __init__(self, send: Send, receive: Receive) -> None:
        self._send, self._receive = send, receive
        self.calls = 0

    def call(self, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        self.calls += 1
        sent = [codec.encode(argument) for argument in arguments]
        self._send({"call": name, "args": sent, "kwargs": codec.encode(keywords)})
        reply = self._receive()
        if not isinstance(reply, dict):
            raise EOFError("the program is gone")
        for given, after in zip(arguments, codec.decode(reply.get("args", [])), strict=False):
            _become(given, after)
        if "ok" in reply:
            return codec.decode(reply["ok"])
        name, text, *_ = reply["raised"]
        raise _exception(str(name), str(text))


def _become(given: Any, after: Any) -> None:
    """Let the tests see what the program did to an argument."""
    if type(given) is not type(after):
        return
    if isinstance(given, list):
        given[:] = after
    elif isinstance(given, (dict, set)):
        given.clear()
        given.update(after)


def _exception(name: str, text: str) -> Exception:
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(text)
        except TypeError:  # a UnicodeError wants five arguments
            pass
    return RuntimeError(f"{name}: {text}")


class Proxy:
    """A function of the program, callable from here."""

    def __init__(self, name: str, link: _Link) -> None:
        self.__name__ = name
        self._link = link

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._link.call(self.__name__, arguments, keywords)


class _Program(ModuleType):
    """`import solution` in the tests."""

    def __init__(self, link: _Link) -> None:
        super().__init__("solution")
        self.__dict__["_link"] = link

    def __getattr__(self, name: str) -> Proxy:
        if name.startswith("__"):
            raise AttributeError(name)
        return Proxy(name, self.__dict__["_link"])


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def run(job: dict[str, Any], send: Send, receive: Receive) -> None:
    """Run the tests and send {"done": [passed, total, note]} or {"broken": why}."""
    link = _Link(send, receive)
    try:
        code = compile(job["tests"], "tests.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        send({"broken": f"the tests do not compile: {error}"[:300]})
        return
    program = _Program(link)
    sys.modules["solution"] = program
    unittest.main = lambda *_, **__: None  # type: ignore[assignment] # the cases are found and run below
    module = ModuleType("tests")
    sys.modules["tests"] = module
    names = module.__dict__
    for name in set(_names(code)):
        if name == job.get("entry") or not (hasattr(builtins, name) or name.startswith("__")):
            names[name] = Proxy(name, link)
    results = _Results()
    results.attempt("tests.py", lambda: exec(code, names))
    if results.passed:
        try:
            units = list(_units(names, job.get("entry"), link))
        except TypeError as error:
            send({"broken": str(error)[:300]})
            return
        if units:
            results = _Results()
            for label, unit in units:
                results.attempt(label, unit)
    if link.calls == 0:
        why = results.notes[0] if results.notes else "they never called the program"
        send({"broken": f"the tests did not reach the program: {why}"[:300]})
        return
    send({"done": [results.passed, results.total, "; ".join(results.notes)[:600]]})


class _Results:
    def __init__(self) -> None:
        self.passed = self.total = 0
        self.notes: list[str] = []

    def attempt(self, label: str, unit: Callable[[], object]) -> None:
        self.total += 1
        try:
            unit()
        except unittest.SkipTest:
            self.total -= 1
        except BaseException as error:  # noqa: BLE001 - SystemExit of a test is a failure like others
            line = _line_in_tests(error)
            self.notes.append(f"{label}{line}: {_said(error)}"[:300])
        else:
            self.passed += 1


def _said(error: BaseException) -> str:
    try:
        text = str(error)
    except ValueError:  # an integer too long to be written in decimal, in a message
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _line_in_tests(error: BaseException) -> str:
    trace, line = error.__traceback__, 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "tests.py":
            line = trace.tb_lineno
        trace = trace.tb_next
    return f", line {line}" if line else ""


def _units(names: dict[str, Any], entry: str | None, link: _Link) -> Iterator[tuple[str, Callable[[], object]]]:
    """What the tests define to be run: check(candidate), unittest cases, test functions and classes.

    Raises: TypeError for a test that would pass because it never runs.
    """
    check = names.get("check")
    if entry and inspect.isfunction(check):
        yield "check", lambda: check(Proxy(entry, link))
    for name, thing in list(names.items()):
        if inspect.isfunction(thing) and name.startswith("test"):
            yield name, _awaited(thing)
        elif isinstance(thing, type) and thing.__module__ == "tests":
            if issubclass(thing, unittest.TestCase):
                for method in unittest.TestLoader().getTestCaseNames(thing):
                    yield f"{name}.{method}", _case(thing, method)
            elif name.startswith("Test"):
                for method in sorted(m for m in vars(thing) if m.startswith("test")):
                    yield f"{name}.{method}", _method(thing, method)


def _refuse_unrun(test: object, *, awaited: bool) -> None:
    """Refuse what calling would not run: a generator, and a coroutine unless someone awaits it. Raises: TypeError."""
    if inspect.isgeneratorfunction(test) or inspect.isasyncgenfunction(test):
        raise TypeError(f"{test.__name__} is a generator: it would never run")
    if inspect.iscoroutinefunction(test) and not awaited:
        raise TypeError(f"{test.__name__} is a coroutine in a case that awaits none: it would never run")


def _awaited(test: Callable[[], Any]) -> Callable[[], object]:
    _refuse_unrun(test, awaited=True)
    return (lambda: asyncio.run(test())) if inspect.iscoroutinefunction(test) else test


def _method(kind: type, name: str) -> Callable[[], object]:
    _refuse_unrun(getattr(kind, name), awaited=True)
    return lambda: _awaited(getattr(kind(), name))()


def _case(kind: type[unittest.TestCase], method: str) -> Callable[[], object]:
    _refuse_unrun(getattr(kind, method), awaited=issubclass(kind, unittest.IsolatedAsyncioTestCase))

    def run_case() -> None:
        result = unittest.TestResult()
        unittest.TestSuite([kind(method)]).run(result)  # a suite, for setUpClass
        problems = [text for _, text in (*result.errors, *result.failures)]
        if problems or result.unexpectedSuccesses:
            last = problems[0].strip().splitlines()[-1] if problems else "passed where a failure was expected"
            raise AssertionError(last)
        if result.skipped:
            raise unittest.SkipTest(method)

    return run_case
