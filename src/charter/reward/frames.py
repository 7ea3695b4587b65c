"""How the trainer and a reward worker talk: length-prefixed JSON over two pipes.

A frame is four bytes, the length of the body as an unsigned big-endian number, and the body: ASCII JSON. Text is
escaped, so lone surrogates and every other thing a model may write cross unharmed.

Not here: who starts the worker and how long it may take (`pool.py`), what it does (`worker.py`).
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

HEADER = struct.Struct(">I")
LARGEST_BYTES = 256 * 1024 * 1024
"""A body larger than this is taken for a broken channel."""


def _plain(value: object) -> Any:
    """JSON for what data columns hold beyond JSON's own types: arrays, scalars of numpy, dates."""
    as_list = getattr(value, "tolist", None)
    if callable(as_list):
        return as_list()
    as_iso = getattr(value, "isoformat", None)
    if callable(as_iso):
        return as_iso()
    raise TypeError(f"a {type(value).__name__} cannot be handed to a reward; use text, numbers, lists and tables")


def encode(message: object) -> bytes:
    """The frame that carries a message.

    Raises: TypeError for a value JSON does not know; ValueError for a message over `LARGEST_BYTES`.
    """
    body = json.dumps(message, default=_plain).encode("ascii")
    if len(body) > LARGEST_BYTES:
        raise ValueError(f"a message of {len(body)} bytes is over the limit of {LARGEST_BYTES}")
    return HEADER.pack(len(body)) + body


def body_length(header: bytes) -> int:
    """The length of the body a header announces, in bytes. Raises: ValueError when it is absurd."""
    (length,) = HEADER.unpack(header)
    if length > LARGEST_BYTES:
        raise ValueError(f"a frame announces {length} bytes, over the limit of {LARGEST_BYTES}")
    return length


def decode(body: bytes) -> Any:
    """The message in a body."""
    return json.loads(body)


def read_frame(stream: BinaryIO) -> Any | None:
    """The next message of a blocking stream, or None at its end (a torn frame counts as the end)."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    length = body_length(header)
    body = stream.read(length)
    return decode(body) if len(body) == length else None
