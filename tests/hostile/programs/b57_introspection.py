# case: b57_introspection
# class: benign
# style: call
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import inspect, typing, types, ast, dis, functools, weakref, gc, sys, abc
@functools.singledispatch
def kind(x: object) -> str: return "other"
@kind.register
def _(x: int) -> str: return "int"
def add(a: int, b: int) -> int:
    assert typing.get_type_hints(add)["a"] is int and list(inspect.signature(add).parameters) == ["a", "b"] and kind(3) == "int"
    assert ast.literal_eval("[1, (2, 3)]") == [1, (2, 3)] and sys.version_info >= (3, 9) and len(sys.argv) >= 0 and isinstance(__name__, str)
    return eval("a + b", {"a": a, "b": b})
