# case: v70_numeric_tower
# class: verdict
# style: call
# it must NOT: pass with an answer that carries its own arithmetic (registered numbers, ctypes, array, memoryview)
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import numbers, ctypes, array
class N(numbers.Integral if False else object):
    def __eq__(s, o): return True
numbers.Integral.register(N)
ANSWERS = iter([N(), ctypes.c_long(3), array.array("q", [3]), memoryview(b"\x03"), bytearray(b"3"), range(3, 4), b"3"] * 5)
def add(a, b): return next(ANSWERS)
