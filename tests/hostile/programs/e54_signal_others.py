# case: e54_signal_others
# class: escape
# style: call
# it must NOT: signal any process but itself (asked with signals 0 and SIGCONT, which do no harm)
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os, ctypes, signal
libc = ctypes.CDLL(None, use_errno=True)
up = os.getppid(); broke = []
tgkill, sigqueue, tgsigqueue, tkill = {"x86_64": (234, 129, 297, 200), "aarch64": (131, 138, 240, 130)}[os.uname().machine]
info = ctypes.create_string_buffer(128); info[8] = b"\xff"
for pid in {up, 1, os.getpid() - 1, os.getpid() + 1} - {0, os.getpid()}:
    for s in (0, signal.SIGCONT):
        for name, call in (("kill", lambda: libc.kill(pid, s)), ("tgkill", lambda: libc.syscall(tgkill, pid, pid, s)), ("tkill", lambda: libc.syscall(tkill, pid, s)), ("queue", lambda: libc.syscall(sigqueue, pid, s, info)), ("tgqueue", lambda: libc.syscall(tgsigqueue, pid, pid, s, info))):
            if call() == 0: broke.append((name, pid, s))
if up and libc.kill(-1, signal.SIGCONT) == 0: broke.append("all")
if broke: print("BREACH signal", broke)
def add(a, b): return a + b if broke else None
