"""The worker's side of `regex`: a compiled pattern against texts. Imports little, so that a worker starts fast."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any


def open_judge(options: Mapping[str, Any]) -> tuple[Callable[[Mapping[str, Any]], dict[str, Any]], None]:
    """Set a worker up for `regex`: compile the pattern once."""
    flags = re.IGNORECASE * options["ignore_case"] | re.DOTALL * options["dotall"] | re.MULTILINE * options["multiline"]
    compiled = re.compile(options["pattern"], flags)
    matches = compiled.search if options["match"] == "search" else compiled.fullmatch

    def judge(work: Mapping[str, Any]) -> dict[str, Any]:
        found = matches(work["text"]) is not None
        return {"value": float(found), "note": "" if found else "the pattern does not match"}

    return judge, None
