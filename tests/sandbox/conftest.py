"""A jail to try things in: tier B, which needs nothing installed. Its self-test runs first, once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from charter.sandbox import Sandbox, open_sandbox


@pytest.fixture(scope="session")
def jail() -> Iterator[Sandbox]:
    opened = open_sandbox("B", slots=2)
    yield opened
    opened.close()
