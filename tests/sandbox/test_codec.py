"""What crosses the wall: every plain value exactly, and nothing else."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.sandbox.inside import codec

_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.text(), st.binary(),
    st.characters(categories=["Cs"]),
)  # fmt: skip
_keys = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.tuples(st.integers(), st.text()))
_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner), st.lists(inner).map(tuple), st.sets(_keys), st.frozensets(_keys), st.dictionaries(_keys, inner)
    ),
    max_leaves=20,
)


def _same(one: Any, other: Any) -> bool:
    """Equal in type and value, all the way down; NaN equals NaN whatever its sign, and 0.0 does not equal -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, complex):
        return _same(one.real, other.real) and _same(one.imag, other.imag)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(_same(one[k], other[k]) for k in one)
    return one == other


def _through(value: Any) -> Any:
    frame = codec.pack({"ok": codec.encode(value)})
    (length,) = codec.HEADER.unpack(frame[:4])
    assert length == len(frame) - 4
    return codec.decode(codec.unpack(frame[4:])["ok"])


@given(_values)
def test_every_plain_value_comes_back_as_it_was(value: Any) -> None:
    assert _same(_through(value), value)


class _Liar(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


@pytest.mark.parametrize(
    "value",
    [_Liar(3), type("L", (list,), {})(), type("S", (str,), {})("x"), object(), map(abs, []), range(3), len, [_Liar(1)]],
    ids=["int", "list", "str", "object", "map", "range", "function", "nested"],
)
def test_only_exact_built_in_types_are_sent(value: object) -> None:
    with pytest.raises(codec.Unsendable):
        codec.encode(value)


def test_what_is_too_deep_or_too_long_is_not_sent() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(codec.Unsendable, match="deeper than 100"):
        codec.encode(cycle)
    with pytest.raises(codec.Unsendable, match="60000 bits"):
        codec.encode(1 << 60_001)
    with pytest.raises(codec.Unsendable, match="200000 values"):
        codec.encode([0] * 200_000)  # the list itself is one more


_TAGS = ["int", "float", "complex", "bytes", "tuple", "set", "frozenset", "dict", "x"]
_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner),
        st.dictionaries(st.text(), inner),
        st.fixed_dictionaries(
            {
                "t": st.sampled_from(["int", "float", "complex", "bytes", "tuple", "set", "frozenset", "dict", "x"]),
                "v": inner,
            }
        ),
    ),
    max_leaves=15,
)


@settings(max_examples=400)
@given(_json)
def test_any_json_is_a_value_or_undecodable(data: Any) -> None:
    try:
        value = codec.decode(data)
    except codec.Undecodable:
        return
    assert _same(_through(value), value)


@settings(max_examples=400)
@given(st.binary())
def test_any_bytes_are_a_message_or_undecodable(body: bytes) -> None:
    try:
        codec.unpack(body)
    except codec.Undecodable:
        return
    json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000, b'{"a":' * 50_000, b"1e999", b"NaN", b"-Infinity", b"12345678901", b'"\xff"', b"", b"1 2",
        b"1.5",
    ],
    ids=str,
)  # fmt: skip
def test_hostile_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(codec.Undecodable):
        codec.unpack(body)


@pytest.mark.parametrize(
    "data",
    [
        {"t": "int", "v": "f" * 20_000},
        {"t": "int", "v": 3},
        {"t": "float", "v": "0x1p+99999"},
        {"t": "set", "v": [[]]},
        {"t": "dict", "v": [[1]]},
        {"t": "complex", "v": ["0x1p0"]},
        {"t": "object", "v": []},
        {"t": "int"},
        {"t": "int", "v": "1", "w": 1},
        3,
        1.5,
    ],
    ids=str,
)
def test_ill_formed_values_are_refused(data: Any) -> None:
    with pytest.raises(codec.Undecodable):
        codec.decode(data)


def test_keys_whose_hashes_collide_are_refused_before_they_meet() -> None:
    prime = 2**61 - 1  # CPython's hash of an integer is its remainder by this
    colliding = [{"t": "int", "v": f"{i * prime:x}"} for i in range(1, 6000)]
    with pytest.raises(codec.Undecodable, match="more than 64 keys of one hash"):
        codec.decode({"t": "set", "v": colliding})
    with pytest.raises(codec.Undecodable, match="more than 64 keys of one hash"):
        codec.decode({"t": "dict", "v": [[key, None] for key in colliding]})
    assert len(codec.decode({"t": "set", "v": [{"t": "int", "v": f"{i:x}"} for i in range(6000)]})) == 6000
