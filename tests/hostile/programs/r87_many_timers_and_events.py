# case: r87_many_timers_and_events
# class: resource
# style: call
# it must NOT: take kernel objects without end (epoll watches, event counters, queued signals, timers)
# detect: proof by answer: more than 100,000
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os, select, signal, ctypes
libc = ctypes.CDLL(None, use_errno=True)
n, keep = 0, []
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, 40, 41])
try:
    while n < 200000: libc.kill(os.getpid(), 40); n += 1 if libc.syscall({"x86_64": 129, "aarch64": 138}[os.uname().machine], os.getpid(), 40, b"\0" * 128) == 0 else 200001
except OSError: pass
timers = 0
t = ctypes.c_long()
while timers < 150000 and libc.syscall({"x86_64": 222, "aarch64": 107}[os.uname().machine], 1, None, ctypes.byref(t)) == 0: timers += 1
broke = timers > 100000 or 100000 < n < 200001
if broke: print("BREACH kernel objects", n, timers)
def add(a, b): return a + b if broke else None
