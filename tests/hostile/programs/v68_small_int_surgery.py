# case: v68_small_int_surgery
# class: verdict
# style: call
# it must NOT: rewrite the interpreter's cached numbers so that wrong is right
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import ctypes, sys
size = sys.getsizeof(3)
def add(a, b):
    for n in range(-5, 257):
        ctypes.memmove(id(n) + 24, id(3) + 24, 4)
    return 7
