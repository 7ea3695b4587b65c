"""What a sandbox server accepts: the bodies of its four endpoints, every key known, every type exact.

Source: pydantic, strict mode, unknown keys refused.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from charter.sandbox.job import Limits


def _text(value: Any) -> str:
    # plain, because models write lone surrogates and a program that holds one deserves its verdict too
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value


Text = Annotated[str, PlainValidator(_text)]
_DEFAULTS = Limits()


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True, hide_input_in_errors=True)


class LimitsBody(_Table):
    """Limits of one execution, as in `charter.sandbox.Limits`; a key that is left out has its default."""

    wall_s: float = Field(default=_DEFAULTS.wall_s, gt=0)
    cpu_s: float | None = Field(default=_DEFAULTS.cpu_s, gt=0)
    memory_bytes: int = Field(default=_DEFAULTS.memory_bytes, ge=1)
    output_bytes: int = Field(default=_DEFAULTS.output_bytes, ge=1)
    result_bytes: int = Field(default=_DEFAULTS.result_bytes, ge=1)
    scratch_bytes: int = Field(default=_DEFAULTS.scratch_bytes, ge=0)


class CallTestBody(_Table):
    """One assert, taken apart."""

    source: Text
    calls: list[Text]
    check: Text


class CallsBody(_Table):
    """POST /v1/calls."""

    program: Text
    tests: list[CallTestBody] = Field(min_length=1)
    setup: Text = ""
    limits: LimitsBody = LimitsBody()


class CaseBody(_Table):
    """One run: its standard input and the output it must have."""

    stdin: Text
    stdout: Text


class StdioBody(_Table):
    """POST /v1/stdio."""

    program: Text
    tests: list[CaseBody] = Field(min_length=1)
    every: bool = False
    limits: LimitsBody = LimitsBody()


class CheckerBody(_Table):
    """POST /v1/checker."""

    program: Text
    tests: Text
    entry: Text | None = None
    limits: LimitsBody = LimitsBody()


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError("not base64 text")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None


class QueryBody(_Table):
    """POST /v1/query. database: base64 of an SQLite file."""

    query: Text
    database: Annotated[bytes, PlainValidator(_bytes)]
    limits: LimitsBody = LimitsBody()


Body = CallsBody | StdioBody | CheckerBody | QueryBody


def faults_of(error: ValidationError) -> str:
    """Every fault of a body in one sentence, by its key; nothing of its content is repeated."""
    faults = [f"{'.'.join(map(str, fault['loc'])) or 'the body'}: {fault['msg']}" for fault in error.errors()[:5]]
    more = len(error.errors()) - len(faults)
    return "; ".join(faults) + (f"; and {more} more" if more > 0 else "")


def over(limits: LimitsBody, most: Limits) -> str:
    """The limits that are above what a server grants, "" if none is."""
    faults = []
    for name in LimitsBody.model_fields:
        asked, granted = getattr(limits, name), getattr(most, name)
        if asked is not None and granted is not None and asked > granted:
            faults.append(f"limits.{name} is {_shown(asked)} and this server grants {_shown(granted)}")
    return "; ".join(faults)


def _shown(number: float) -> str:
    return f"{number:g}" if isinstance(number, float) else str(number) if abs(number) < 10**18 else "huge"
