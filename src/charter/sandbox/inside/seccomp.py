"""The allow-list of `policy.py` as a classic BPF program, and its installation.

Source: Linux, Documentation/userspace-api/seccomp_filter.rst; the instruction set of linux/bpf_common.h.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from dataclasses import dataclass

from .policy import (
    AUDIT_ARCH,
    Among,
    Condition,
    Keeps,
    Machine,
    NotBoth,
    Null,
    Other,
    Self,
    Without,
    absent,
    allowed,
    number_of,
)

_LOAD, _JUMP_EQUAL, _JUMP_ABOVE_OR_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_KILL_PROCESS, _ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
_NR, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data
_X32_BIT = 0x40000000
_INSTRUCTION = struct.Struct("<HBBI")
_DENY = -1  # a jump target that is not known yet: the block's refusal
_SET_MODE_FILTER = 1


@dataclass(frozen=True, slots=True)
class Program:
    """A filter. own_pid_at: byte offsets of the constants that must become the process's own id."""

    code: bytes
    own_pid_at: tuple[int, ...]


def _low(argument: int) -> int:
    return _ARGS + 8 * argument


def _check(condition: Condition) -> list[tuple[int, int, int, int]]:
    """Instructions that fall through when the condition is met and jump to _DENY otherwise."""
    load = (_LOAD, 0, 0, _low(condition.argument))
    match condition:
        case Among(values=values):
            last = len(values) - 1
            tests = [(_JUMP_EQUAL, last - i, _DENY if i == last else 0, v) for i, v in enumerate(values)]
            return [load, *tests]
        case Without(bits=bits):
            return [load, (_JUMP_SET, _DENY, 0, bits)]
        case NotBoth(one=one, other=other):
            return [load, (_JUMP_SET, 0, 1, one), (_JUMP_SET, _DENY, 0, other)]
        case Other(value=value):
            return [load, (_JUMP_EQUAL, _DENY, 0, value)]
        case Null():
            high = (_LOAD, 0, 0, _low(condition.argument) + 4)
            return [load, (_JUMP_EQUAL, 0, _DENY, 0), high, (_JUMP_EQUAL, 0, _DENY, 0)]
        case Keeps(value=value, unless_null=pointer):
            return [
                (_LOAD, 0, 0, _low(pointer)),
                (_JUMP_EQUAL, 0, 2, 0),
                (_LOAD, 0, 0, _low(pointer) + 4),
                (_JUMP_EQUAL, 2, 0, 0),
                load,
                (_JUMP_EQUAL, _DENY, 0, value),
            ]
        case Self(zero=True):
            return [load, (_JUMP_EQUAL, 1, 0, 0), (_JUMP_EQUAL, 0, _DENY, _OWN)]
        case Self():
            return [load, (_JUMP_EQUAL, 0, _DENY, _OWN)]


_OWN = 0x7FFFFFFF  # stands for the own process id; no process has this one


def _block(number: int, conditions: tuple[Condition, ...]) -> list[tuple[int, int, int, int]]:
    """What is done for one system call; the accumulator holds its number before and, if it is another one, after."""
    if not conditions:
        return [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    body = [instruction for condition in conditions for instruction in _check(condition)]
    body.append((_RETURN, 0, 0, _ALLOW))
    deny_at = len(body)
    body.append((_RETURN, 0, 0, _ERRNO | errno.EPERM))
    resolved = [
        (code, deny_at - i - 1 if jt == _DENY else jt, deny_at - i - 1 if jf == _DENY else jf, k)
        for i, (code, jt, jf, k) in enumerate(body)
    ]
    return [(_JUMP_EQUAL, 0, len(resolved), number), *resolved]


def assemble(on: Machine, *, scratch: bool = False, metadata: bool = False) -> Program:
    """The filter for an architecture; the own process id is filled in later. scratch, metadata: see the policy."""
    instructions: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCH),
        (_JUMP_EQUAL, 1, 0, AUDIT_ARCH[on]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NR),
    ]
    if on == "x86_64":
        instructions += [(_JUMP_ABOVE_OR_EQUAL, 0, 1, _X32_BIT), (_RETURN, 0, 0, _KILL_PROCESS)]
    for number, conditions in allowed(on, scratch=scratch, metadata=metadata).items():
        instructions += _block(number, conditions)
    for number, code in absent(on).items():
        instructions += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | code)]
    instructions.append((_RETURN, 0, 0, _ERRNO | errno.EPERM))
    own = tuple(i * 8 + 4 for i, (*_, k) in enumerate(instructions) if k == _OWN)
    return Program(code=b"".join(_INSTRUCTION.pack(*one) for one in instructions), own_pid_at=own)


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


class Filter:
    """A program, ready to be closed around a process: everything a child would have to allocate is there already."""

    def __init__(self, program: Program, libc: ctypes.CDLL, on: Machine) -> None:
        code = bytearray(program.code)
        self._code = (ctypes.c_char * len(code)).from_buffer(code)
        self._own = [ctypes.c_uint32.from_buffer(code, offset) for offset in program.own_pid_at]
        self._whole = _FilterProgram(len(code) // 8, ctypes.addressof(self._code))
        self._syscall = libc.syscall
        self._arguments = (
            ctypes.c_long(number_of("seccomp", on)), ctypes.c_long(_SET_MODE_FILTER), ctypes.c_long(0),
            ctypes.byref(self._whole),
        )  # fmt: skip

    def install(self, own_pid: int) -> None:
        """Close the filter around this process, for good. Needs no_new_privs. Raises: OSError."""
        for place in self._own:
            place.value = own_pid
        if self._syscall(*self._arguments) != 0:
            raise OSError(ctypes.get_errno(), "seccomp refused the filter")
