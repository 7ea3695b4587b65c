"""Kernels for the CPU at hand, written as LLVM's intermediate representation and compiled when they are first needed.

For inner loops of decoding that no library has: `charter.model.few_rows`. A kernel is a function of addresses and whole
numbers; it runs on one core, without the interpreter's lock, and checks nothing. Vectors are of 8 or 16 floats whatever
the machine: LLVM cuts them to its registers.
"""

from __future__ import annotations

import ctypes
import math
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from threading import Lock
from typing import Any, TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")
MOST_THREADS = 2
"""Beyond, several cores share a product of torch's, which is then faster than a kernel on one."""
_engines: list[Any] = []
"""They own the machine code."""
_compiling = Lock()


class Kernel:
    """The text of one function, written line by line.

    pointers, numbers: names of the arguments, in this order. Values are LLVM's registers and constants, as text.
    """

    def __init__(self, name: str, pointers: Sequence[str], numbers: Sequence[str] = ()) -> None:
        self.name = name
        self.arguments = [*[ctypes.c_void_p] * len(pointers), *[ctypes.c_int64] * len(numbers)]
        given = ", ".join([*(f"ptr noalias %{name}" for name in pointers), *(f"i64 %{name}" for name in numbers)])
        self._head = f"define void @{name}({given}) {{\nentry:"
        self._slots: list[str] = []
        self._lines: list[str] = []
        self._count = 0

    @property
    def source(self) -> str:
        """All of it; `slot`s stand at the beginning, where LLVM turns them into registers."""
        return "\n".join([self._head, *self._slots, *self._lines, " ret void\n}"])

    def do(self, line: str) -> None:
        self._lines.append(f" {line}")

    def let(self, expression: str) -> str:
        """The value of an instruction."""
        self.do(f"{(name := self._name())} = {expression}")
        return name

    def slot(self, kind: str) -> str:
        """Room for a variable of this type."""
        self._slots.append(f" {(name := self._name())} = alloca {kind}")
        return name

    @contextmanager
    def loop(self, first: str | int, end: str | int, step: int = 1) -> Iterator[str]:
        """for i in range(first, end, step): what is written inside."""
        self._count += 1
        k = self._count
        self._lines += [
            f" br label %before{k}\nbefore{k}:\n br label %head{k}\nhead{k}:",
            f" %i{k} = phi i64 [{first}, %before{k}], [%next{k}, %last{k}]",
            f" %more{k} = icmp slt i64 %i{k}, {end}\n br i1 %more{k}, label %body{k}, label %after{k}\nbody{k}:",
        ]
        yield f"%i{k}"
        self._lines += [
            f" br label %last{k}\nlast{k}:\n %next{k} = add i64 %i{k}, {step}\n br label %head{k}\nafter{k}:"
        ]

    def sum(self, *numbers: str | int) -> str:
        """Of whole numbers."""
        total = str(numbers[0])
        for number in numbers[1:]:
            total = self.let(f"add i64 {total}, {number}")
        return total

    def times(self, a: str | int, b: str | int) -> str:
        return self.let(f"mul i64 {a}, {b}")

    def at(self, pointer: str, index: str | int) -> str:
        """Address of a float."""
        return self.let(f"getelementptr float, ptr {pointer}, i64 {index}")

    def load(self, pointer: str, lanes: int = 1) -> str:
        return self.let(f"load {vector(lanes)}, ptr {pointer}, align 4")

    def store(self, value: str, pointer: str, lanes: int = 1) -> None:
        self.do(f"store {vector(lanes)} {value}, ptr {pointer}, align 4")

    def broadcast(self, number: str, lanes: int) -> str:
        """One float in all lanes."""
        kind = vector(lanes)
        first = self.let(f"insertelement {kind} poison, float {number}, i32 0")
        return self.let(f"shufflevector {kind} {first}, {kind} poison, <{lanes} x i32> zeroinitializer")

    def whole(self, pointer: str, index: str | int) -> str:
        """The whole number of 64 bits that stands there."""
        return self.let(f"load i64, ptr {self.let(f'getelementptr i64, ptr {pointer}, i64 {index}')}")

    def arithmetic(self, name: str, a: str, b: str, lanes: int) -> str:
        """a ∘ b; name: fadd, fsub, fmul or fdiv."""
        return self.let(f"{name} {vector(lanes)} {a}, {b}")

    def function(self, name: str, *given: str, lanes: int) -> str:
        """LLVM's own of this name (sqrt, maxnum, …), lane by lane."""
        kind = vector(lanes)
        return self.let(f"call {kind} @llvm.{name}.v{lanes}f32({', '.join(f'{kind} {one}' for one in given)})")

    def number(self, value: float, lanes: int) -> str:
        """A constant in all lanes."""
        return f"<{', '.join([f'float {_bits(value)}'] * lanes)}>"

    def chosen(self, condition: str, a: str, b: str, lanes: int) -> str:
        """a where the condition holds, b elsewhere; condition: an i1 with its type, for all lanes or for each."""
        kind = vector(lanes)
        return self.let(f"select {condition}, {kind} {a}, {kind} {b}")

    def exponential(self, x: str, lanes: int) -> str:
        """e^x to two units in the last place: e^r · 2^n with |r| ≤ ln 2 / 2; below -87 and above 88 as there.

        The polynomial is the Taylor series of e^r up to r⁷.
        """
        kind, whole = vector(lanes), f"<{lanes} x i32>"
        for test, limit in (("olt", -87), ("ogt", 88)):  # written so that a NaN stays one
            bound = self.number(limit, lanes)
            outside = self.let(f"fcmp {test} {kind} {x}, {bound}")
            x = self.chosen(f"<{lanes} x i1> {outside}", bound, x, lanes)
        n = self.function("rint", self.arithmetic("fmul", x, self.number(1 / math.log(2), lanes), lanes), lanes=lanes)
        high = 0.693359375  # ln 2 in two parts: products with the first, of 10 bits, are exact
        r = self.function("fmuladd", n, self.number(-high, lanes), x, lanes=lanes)
        r = self.function("fmuladd", n, self.number(high - math.log(2), lanes), r, lanes=lanes)
        total = self.number(1 / math.factorial(7), lanes)
        for power in range(6, -1, -1):
            total = self.function("fmuladd", total, r, self.number(1 / math.factorial(power), lanes), lanes=lanes)
        exponent = self.let(f"freeze {whole} {self.let(f'fptosi {kind} {n} to {whole}')}")
        biased = self.let(f"add {whole} {exponent}, <{', '.join(['i32 127'] * lanes)}>")
        bits = self.let(f"shl {whole} {biased}, <{', '.join(['i32 23'] * lanes)}>")
        return self.arithmetic("fmul", total, self.let(f"bitcast {whole} {bits} to {kind}"), lanes)

    def add_product(self, total: str, a: str, b: str, lanes: int) -> None:
        """total += a · b, total in a slot; rounded once where the machine can."""
        self.store(self.function("fmuladd", a, b, self.load(total, lanes), lanes=lanes), total, lanes)

    def fetch(self, pointer: str) -> None:
        """Bring what lies there into the cache."""
        self.do(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 0, i32 3, i32 1)")

    def _name(self) -> str:
        self._count += 1
        return f"%v{self._count}"


def vector(lanes: int) -> str:
    """The type of so many floats."""
    return "float" if lanes == 1 else f"<{lanes} x float>"


def serves(*given: Tensor) -> bool:
    """Whether kernels may compute with these: float32 on a CPU, in inference mode, with one or two threads."""
    return (
        all(x.device.type == "cpu" and x.dtype == torch.float32 for x in given)
        and torch.is_inference_mode_enabled()
        and not torch.is_autocast_enabled("cpu")
        and torch.get_num_threads() <= MOST_THREADS
        and _compiles()
    )


@cache
def _compiles() -> bool:
    """Whether kernels can be compiled for this machine and give what they should; tried once, with a warning if not."""
    trial = Kernel("trial", ("x", "y"))
    total = trial.slot(vector(16))
    trial.store(trial.load("%y", 16), total, 16)
    trial.add_product(total, trial.load("%x", 16), trial.broadcast(trial.load("%x"), 16), 16)
    trial.store(trial.load(total, 16), "%y", 16)
    x, y = (torch.full((16,), value, dtype=torch.float32, device="cpu") for value in (2.0, 5.0))
    try:
        compiled(trial)[0](x.data_ptr(), y.data_ptr())
        reason = "" if y.tolist() == [2 * 2 + 5] * 16 else "a kernel computed something else than it should"
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}"
    if reason:
        warnings.warn(
            f"decoding goes through torch alone, which is slower: no kernels here ({reason})",
            RuntimeWarning,
            stacklevel=2,
        )
    return not reason


def compiled(*kernels: Kernel) -> list[Callable[..., None]]:
    """The kernels as functions of addresses and numbers; takes some tenths of a second."""
    import llvmlite.binding as llvm

    with _compiling:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.check_jit_execution()  # raises where no memory may be executed, instead of dying in it
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
        )
        module = llvm.parse_assembly("\n".join([_INTRINSICS, *(kernel.source for kernel in kernels)]))
        module.verify()
        passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1))
        passes.getModulePassManager().run(module, passes)
        engine = llvm.create_mcjit_compiler(module, machine)
        engine.finalize_object()
        _engines.append(engine)
        return [
            ctypes.CFUNCTYPE(None, *kernel.arguments)(engine.get_function_address(kernel.name)) for kernel in kernels
        ]


def once(make: Callable[[], Made]) -> Callable[[], Made]:
    """`make`, called by the first who needs it; others wait."""
    made, making = cache(make), Lock()

    @wraps(make)
    def shared() -> Made:
        with making:
            return made()

    return shared


def _bits(value: float) -> str:
    """A float as LLVM writes it exactly: the bits of the double that equals it."""
    (double,) = struct.unpack("<Q", struct.pack("<d", struct.unpack("<f", struct.pack("<f", value))[0]))
    return f"0x{double:016X}"


_FUNCTIONS = {"fmuladd": 3, "maxnum": 2, "sqrt": 1, "rint": 1}
"""Name → arguments."""
_INTRINSICS = "\n".join(
    [
        "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)",
        *(
            f"declare {vector(n)} @llvm.{name}.v{n}f32({', '.join([vector(n)] * arguments)})"
            for name, arguments in _FUNCTIONS.items()
            for n in (8, 16)
        ),
    ]
)
