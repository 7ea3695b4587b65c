"""A jail to try things in: tier B, which needs nothing installed. Its self-test runs first, once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from charter.sandbox import Sandbox, open_sandbox

NEED_A_JAIL = ("test_jail.py", "test_lifetime.py", "test_scratch.py", "test_selftest.py")


@pytest.fixture(autouse=True)
def _needs_a_jail(request: pytest.FixtureRequest, can_jail: bool) -> None:
    if request.path.name in NEED_A_JAIL and not can_jail:
        pytest.skip("this kernel has no Landlock")


@pytest.fixture(scope="session")
def jail(can_jail: bool) -> Iterator[Sandbox]:
    if not can_jail:
        pytest.skip("this kernel has no Landlock")
    opened = open_sandbox("B", slots=2)
    yield opened
    opened.close()
