"""Constitution → TOML that reads back to an equal constitution."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from charter.errors import DataError

if TYPE_CHECKING:
    from charter.constitution.principles import Check, Constitution, Principle

_UNSAID = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def to_toml(constitution: Constitution) -> str:
    """The text of the constitution's file.

    Raises: DataError for a weight that is not finite, or text that is not Unicode: neither could be read back.
    """
    lines = [f"name = {_text(constitution.name)}", f"version = {_text(constitution.version)}"]
    if constitution.prose:
        lines.append(f"prose = {_long(constitution.prose)}")
    if not constitution.principles:
        lines.append("principle = []")
    for principle in constitution.principles:
        lines += ["", "[[principle]]", *_principle(principle)]
    text = "\n".join(lines) + "\n"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"constitution {constitution.name!r} holds {text[error.start]!r}, which is no Unicode text and cannot be "
            "written. Remove it"
        ) from None
    return text


def _principle(principle: Principle) -> Iterator[str]:
    yield f"id = {_text(principle.id)}"
    if principle.title:
        yield f"title = {_text(principle.title)}"
    yield f"text = {_long(principle.text)}"
    if principle.reason:
        yield f"reason = {_long(principle.reason)}"
    yield f"weight = {_number(principle.weight, principle.id)}"
    if principle.tags:
        yield f"tags = [{', '.join(map(_text, principle.tags))}]"
    for key in ("critique", "revision", "preference"):
        if written := getattr(principle, key):
            yield f"{key} = {_long(written)}"
    if principle.checks:
        yield "checks = ["
        yield from (f"  {_check(check, principle.id)}," for check in principle.checks)
        yield "]"


def _check(check: Check, principle: str) -> str:
    parts = [f"question = {_text(check.question)}"]
    if not check.wanted:
        parts.append("wanted = false")
    if check.weight != 1.0:
        parts.append(f"weight = {_number(check.weight, principle)}")
    if check.program is not None:
        parts.append(f"program = {_text(check.program)}")
    return "{ " + ", ".join(parts) + " }"


def _number(value: float, principle: str) -> str:
    if not math.isfinite(value):
        raise DataError(f"principle {principle!r} has the weight {value}, which cannot be written. Give it a number")
    return repr(float(value))


def _text(text: str) -> str:
    # JSON's escapes are TOML's too; only DEL is allowed raw in JSON and not in TOML
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _long(text: str) -> str:
    """A text of several lines as they stand, where it has several."""
    if "\n" not in text:
        return _text(text)
    body = text.replace("\\", "\\\\").replace('"""', '""\\"')
    body = _UNSAID.sub(lambda found: f"\\u{ord(found[0]):04X}", body)
    if body.endswith('"'):
        body = body[:-1] + '\\"'
    return f'"""\n{body}"""'
