# case: e53_ptrace_me
# class: escape
# style: call
# it must NOT: make the process that started it its tracer, which then waits for it
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
broke = libc.ptrace(0, 0, 0, 0) == 0
if broke: print("BREACH traceme")
def add(a, b): return a + b if broke else None
