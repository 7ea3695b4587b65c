# case: r47_c_stack_overflow
# class: resource
# style: call
# it must NOT: take the host down with it, or pass, when its own stack overflows
# detect: outcome crashed (never sandbox_error); no core
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys
sys.setrecursionlimit(10**9)
def add(a, b):
    class X:
        def __getattribute__(s, n): return getattr(s, n + "x")
    return [X().a, (lambda f: f(f))(lambda f: f(f))]
