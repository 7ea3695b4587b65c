"""A jail to try things in: tier B, which needs nothing installed. Its self-test runs first, once."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from charter.sandbox import Sandbox, open_sandbox

NEED_A_JAIL = ("test_jail.py", "test_lifetime.py", "test_scratch.py", "test_selftest.py")


def _kernel_can() -> bool:
    """Whether this kernel has what tier B is made of. That the jail then holds is for the tests to show."""
    if not sys.platform.startswith("linux"):
        return False
    from charter.sandbox.inside import landlock, policy

    return landlock.version(ctypes.CDLL(None, use_errno=True), policy.machine()) > 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if item.path.parent == Path(__file__).parent and item.path.name in NEED_A_JAIL]
    if here and not _kernel_can():
        for item in here:
            item.add_marker(pytest.mark.skip(reason="this kernel has no Landlock"))


@pytest.fixture(scope="session")
def jail() -> Iterator[Sandbox]:
    opened = open_sandbox("B", slots=2)
    yield opened
    opened.close()
