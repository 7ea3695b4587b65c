"""Values and frames between a program and its judge: data of exact built-in types, and nothing that has to be run.

A frame is its length (four bytes, big-endian) and ASCII JSON. In JSON, null, true, text and lists stand for
themselves; every other type is a table {"t": type, "v": content}. Numbers travel as text that says exactly what they
are. The reader trusts nothing: it bounds bytes, depth, digits and the number of keys whose hashes a program could make
collide.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from typing import Any

HEADER = struct.Struct(">I")
DEEPEST = 100
MOST_BITS = 60_000
MOST_VALUES = 200_000
MOST_OF_ONE_HASH = 64
MOST_KEYS = 10_000


class Unsendable(ValueError):  # noqa: N818 - reads as the condition it names
    """A value that is no data: another type, too deep, too long."""


class Undecodable(ValueError):  # noqa: N818
    """Bytes that do not hold a value."""


def encode(value: object) -> Any:
    """The JSON form of a value of exact built-in types. Raises: Unsendable."""
    return _encode(value, 0, [MOST_VALUES])


def _encode(value: object, depth: int, left: list[int]) -> Any:
    left[0] -= 1
    if left[0] < 0:
        raise Unsendable(f"a value made of more than {MOST_VALUES} values")
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return {"t": "int", "v": _integer(value)}  # type: ignore[arg-type]
    if kind is float:
        return {"t": "float", "v": float.hex(value)}  # type: ignore[arg-type]
    if kind is complex:
        return {"t": "complex", "v": [float.hex(value.real), float.hex(value.imag)]}  # type: ignore[attr-defined]
    if kind is bytes:
        return {"t": "bytes", "v": bytes.hex(value)}  # type: ignore[arg-type]
    if depth >= DEEPEST:
        raise Unsendable(f"a value nested deeper than {DEEPEST} levels")
    if kind is list:
        return [_encode(item, depth + 1, left) for item in value]  # type: ignore[attr-defined]
    if kind is tuple or kind is set or kind is frozenset:
        return {"t": kind.__name__, "v": [_encode(item, depth + 1, left) for item in value]}  # type: ignore[attr-defined]
    if kind is dict:
        pairs = dict.items(value)  # type: ignore[arg-type]
        return {"t": "dict", "v": [[_encode(k, depth + 1, left), _encode(v, depth + 1, left)] for k, v in pairs]}
    name = kind.__name__ if type(kind.__name__) is str else "?"
    raise Unsendable(f"a value of type {name[:80]}, which is no plain data")


def _integer(value: int) -> str:
    if int.bit_length(value) > MOST_BITS:
        raise Unsendable(f"an integer of more than {MOST_BITS} bits")
    return f"{value:x}"


def decode(data: Any, depth: int = 0) -> Any:
    """The value of its JSON form. Raises: Undecodable for anything `encode` would not have written."""
    if data is None or isinstance(data, (bool, str)):
        return data
    if depth > DEEPEST:
        raise Undecodable("nested too deep")
    if isinstance(data, list):
        return [decode(item, depth + 1) for item in data]
    if not isinstance(data, dict) or data.keys() != {"t", "v"}:
        raise Undecodable("neither a plain value nor a tagged one")
    kind, content = data["t"], data["v"]
    try:
        return _decode_tagged(kind, content, depth)
    except (TypeError, ValueError, OverflowError) as error:
        raise Undecodable(str(error)) from None


def _decode_tagged(kind: object, content: Any, depth: int) -> Any:
    if kind == "int":
        return _whole(content)
    if kind == "float":
        return _real(content)
    if kind == "complex":
        real, imaginary = content
        return complex(_real(real), _real(imaginary))
    if kind == "bytes" and isinstance(content, str):
        return bytes.fromhex(content)
    if not isinstance(content, list):
        raise Undecodable(f"no content for {str(kind)[:20]!r}")
    if kind == "tuple":
        return tuple(decode(item, depth + 1) for item in content)
    if kind in ("set", "frozenset"):
        members = [decode(item, depth + 1) for item in content]
        _refuse_colliding(members)
        return set(members) if kind == "set" else frozenset(members)
    if kind == "dict":
        pairs = [(decode(key, depth + 1), decode(value, depth + 1)) for key, value in content]
        _refuse_colliding([key for key, _ in pairs])
        return dict(pairs)
    raise Undecodable(f"there is no type {str(kind)[:20]!r}")


def _whole(content: object) -> int:
    if not isinstance(content, str) or len(content) > MOST_BITS // 4 + 2:
        raise Undecodable("no integer")
    return int(content, 16)


def _real(content: object) -> float:
    if not isinstance(content, str) or len(content) > 64:
        raise Undecodable("no float")
    return float.fromhex(content)


def _refuse_colliding(keys: list[Any]) -> None:
    """A program can make integers and tuples of one hash; a table of n such keys costs n² comparisons."""
    if sum(not isinstance(key, (str, bytes)) for key in keys) > MOST_KEYS:
        raise Undecodable(f"more than {MOST_KEYS} keys that are no text")  # chosen numbers collide in part, too
    counts = Counter(map(hash, keys))
    if counts and max(counts.values()) > MOST_OF_ONE_HASH:
        raise Undecodable(f"more than {MOST_OF_ONE_HASH} keys of one hash")


def pack(message: object) -> bytes:
    """The frame of a message made of JSON's own types."""
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    return HEADER.pack(len(body)) + body


def unpack(body: bytes) -> Any:
    """The message in a frame's body. Raises: Undecodable."""
    try:
        return json.loads(body.decode("ascii"), parse_int=_count, parse_float=_refuse, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"not JSON: {error}") from None


def _count(text: str) -> int:
    if len(text) > 10:
        raise ValueError("a long number that is not tagged")
    return int(text)


def _refuse(text: str) -> float:
    raise ValueError(f"a number that is not tagged: {text[:20]}")
