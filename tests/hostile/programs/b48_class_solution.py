# case: b48_class_solution
# class: benign
# style: call
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
from typing import Generic, TypeVar, Optional, List, NamedTuple, Protocol
from enum import Enum, auto
from abc import ABC, abstractmethod
T = TypeVar("T")
class Op(Enum):
    ADD = auto(); SUB = auto()
class Node(NamedTuple):
    value: int; next: Optional["Node"] = None
class Stack(Generic[T]):
    def __init__(self) -> None: self.items: List[T] = []
    def push(self, x: T) -> None: self.items.append(x)
    def pop(self) -> T: return self.items.pop()
class Base(ABC):
    @abstractmethod
    def run(self, a: int, b: int) -> int: ...
class Solution(Base):
    def run(self, a: int, b: int) -> int:
        s: Stack[int] = Stack(); s.push(a); s.push(b)
        match Op.ADD:
            case Op.ADD: return s.pop() + s.pop()
            case _: return 0
def add(a, b): return Solution().run(Node(a).value, b)
