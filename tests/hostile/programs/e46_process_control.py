# case: e46_process_control
# class: escape
# style: call
# it must NOT: undo what ties it to its parent: death signal, not dumpable, no new privileges
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
broke = []
for name, args in (("pdeathsig", (1, 0, 0, 0, 0)), ("dumpable", (4, 1, 0, 0, 0)), ("subreaper", (36, 1, 0, 0, 0)), ("mm brk", (35, 8, 0, 0, 0)), ("ptracer any", (0x59616D61, -1, 0, 0, 0)),
                   ("securebits", (28, 0, 0, 0, 0)), ("ambient", (47, 2, 0, 0, 0)), ("io flusher", (57, 1, 0, 0, 0))):
    if libc.prctl(*args) == 0: broke.append(name)
if libc.prctl(39, 0, 0, 0, 0) == 0: broke.append("no_new_privs off")
if broke: print("BREACH prctl", broke)
def add(a, b): return a + b if broke else None
