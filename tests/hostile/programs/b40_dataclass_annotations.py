# case: b40_dataclass_annotations
# class: benign
# style: call
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
from __future__ import annotations
from dataclasses import dataclass, field, KW_ONLY, InitVar, replace, asdict
from typing import ClassVar
@dataclass(order=True, frozen=True, slots=True)
class Pair:
    a: int
    b: int
    _: KW_ONLY
    names: list[str] = field(default_factory=list, compare=False)
    kind: ClassVar[str] = "pair"
    seed: InitVar[int | None] = None
    def total(self) -> int: return self.a + self.b
def add(a, b): return replace(Pair(**{"a": a, "b": 0}), b=b).total() + len(asdict(Pair(1, 2))["names"])
