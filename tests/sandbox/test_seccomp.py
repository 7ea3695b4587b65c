"""The filter does what the policy says: the assembled program is interpreted here, instruction by instruction."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.sandbox.inside import policy, seccomp
from charter.sandbox.inside.policy import Among, Condition, Keeps, Machine, NotBoth, Null, Other, Self, Without

_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
_PID = 4321
_MACHINES: tuple[Machine, ...] = ("x86_64", "aarch64")


def _interpret(code: bytes, data: bytes) -> int:
    """Classic BPF as far as the kernel's seccomp allows it: load a word, compare, return."""
    instructions = list(struct.iter_unpack("<HBBI", code))
    accumulator, at = 0, 0
    while True:
        kind, jump_true, jump_false, k = instructions[at]
        at += 1
        if kind == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif kind == 0x06:
            return k
        else:
            met = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[kind]
            at += jump_true if met else jump_false


def _filter(on: Machine) -> bytes:
    program = seccomp.assemble(on)
    code = bytearray(program.code)
    for offset in program.own_pid_at:
        struct.pack_into("<I", code, offset, _PID)
    return bytes(code)


def _call(number: int, arguments: tuple[int, ...], arch: int) -> bytes:
    return struct.pack("<IIQ6Q", number, arch, 0, *arguments)


def _holds(condition: Condition, arguments: tuple[int, ...]) -> bool:
    whole = arguments[condition.argument]
    low = whole & 0xFFFFFFFF
    match condition:
        case Among(values=values):
            return low in values
        case Without(bits=bits):
            return low & bits == 0
        case NotBoth(one=one, other=other):
            return not (low & one and low & other)
        case Other(value=value):
            return low != value
        case Null():
            return whole == 0
        case Keeps(value=value, unless_null=pointer):
            return low != value or arguments[pointer] == 0
        case Self(zero=zero):
            return low == _PID or (zero and low == 0)


_interesting = st.one_of(
    st.integers(0, 2**64 - 1),
    st.sampled_from(
        [0, 1, 2, 3, 4, 9, _PID, 0x3D0F00, 0x7D0F00, 0x10000000, 0x21, 0x22, 0x5401, 0x5412, 0x80001, 0o10000000, 1030]
    ),
)


@pytest.mark.parametrize("on", _MACHINES)
@settings(max_examples=300)
@given(data=st.data())
def test_a_call_is_let_through_exactly_when_its_conditions_hold(on: Machine, data: st.DataObject) -> None:
    code, allowed = _filter(on), policy.allowed(on)
    number = data.draw(st.one_of(st.sampled_from(sorted(allowed)), st.integers(0, 600)))
    arguments = data.draw(st.tuples(*[_interesting] * 6))
    found = _interpret(code, _call(number, arguments, policy.AUDIT_ARCH[on]))
    if number in allowed:
        right = _ALLOW if all(_holds(condition, arguments) for condition in allowed[number]) else _EPERM
    else:
        right = _ENOSYS if number in policy.absent(on) else _EPERM
    assert found == right


@pytest.mark.parametrize("on", _MACHINES)
def test_every_condition_is_reached(on: Machine) -> None:
    # hypothesis rarely draws an exact pid or flag word: here each allowed call is made as it must pass
    passing = {
        Other: lambda c: c.value + 1,
        Self: lambda c: _PID,
        Among: lambda c: c.values[-1],
        Without: lambda c: 0,
        Null: lambda c: 0,
    }
    for number, conditions in policy.allowed(on).items():
        arguments = [0] * 6
        for condition in conditions:
            if type(condition) in passing:
                arguments[condition.argument] = passing[type(condition)](condition)
        found = _interpret(_filter(on), _call(number, tuple(arguments), policy.AUDIT_ARCH[on]))
        assert found == _ALLOW, number


def test_a_foreign_architecture_and_the_x32_convention_are_killed() -> None:
    code = _filter("x86_64")
    assert _interpret(code, _call(1, (0,) * 6, 0x40000003)) == _KILL  # i386
    assert _interpret(code, _call(0x40000000 + 1, (0,) * 6, policy.AUDIT_ARCH["x86_64"])) == _KILL
    assert _interpret(_filter("aarch64"), _call(64, (0,) * 6, policy.AUDIT_ARCH["x86_64"])) == _KILL


def test_the_upper_half_of_a_pointer_is_looked_at() -> None:
    sendto = 44
    code, arch = _filter("x86_64"), policy.AUDIT_ARCH["x86_64"]
    assert _interpret(code, _call(sendto, (3, 0, 0, 0, 0, 0), arch)) == _ALLOW
    assert _interpret(code, _call(sendto, (3, 0, 0, 0, 1 << 40, 0), arch)) == _EPERM


_DANGEROUS = {  # x86-64, aarch64 (asm/unistd_64.h, asm-generic/unistd.h)
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "fork": (57, -1), "vfork": (58, -1),
    "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117), "io_uring_setup": (425, 425),
    "memfd_create": (319, 279), "shmget": (29, 194), "keyctl": (250, 219), "mount": (165, 40),
    "unshare": (272, 97), "setns": (308, 268), "chmod": (90, -1), "unlinkat": (263, 35), "newfstatat": (262, 79),
    "process_vm_readv": (310, 270), "pidfd_open": (434, 434), "bpf": (321, 280), "userfaultfd": (323, 282),
    "perf_event_open": (298, 241), "init_module": (175, 105), "kexec_load": (246, 104), "sendmsg": (46, 211),
    "setsockopt": (54, 208), "flock": (73, 32), "setpriority": (141, 140), "sched_setaffinity": (203, 122),
    "personality": (135, 92),
}  # fmt: skip


@pytest.mark.parametrize("on", _MACHINES)
@pytest.mark.parametrize("name", _DANGEROUS)
def test_what_is_dangerous_is_not_in_the_list(on: Machine, name: str) -> None:
    assert _DANGEROUS[name][0 if on == "x86_64" else 1] not in policy.allowed(on)
