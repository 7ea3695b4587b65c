# case: v69_type_surgery
# class: verdict
# style: call
# it must NOT: give a lying object the exact type int by overwriting its type pointer
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import ctypes
class I:
    __slots__ = ("a", "b")
    def __eq__(s, o): return True
def add(a, b):
    x = I(); x.a = x.b = 3
    ctypes.c_ssize_t.from_address(id(x) + 8).value = id(int)
    return x
