# case: r51_traceback_bomb
# class: resource
# style: call
# it must NOT: make the report of its failure cost more than the failure (deep tracebacks, long lines, slow formatting)
# detect: elapsed; note is short
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys
class Slow(str):
    def __str__(s): return s * 1000
    __repr__ = __str__
def down(n, x="y" * 10000):
    if n == 0: raise KeyError(Slow("z" * 10000))
    down(n - 1)
def add(a, b):
    sys.setrecursionlimit(5000)
    try: down(900)
    except KeyError as e: raise ExceptionGroup("g" * 10**6, [e, ExceptionGroup("h", [ValueError("v" * 10**6)] * 1000)])
