# case: e55_schedule_others
# class: escape
# style: call
# it must NOT: change priority, class, affinity or io priority of any process but itself, or raise its own
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os, ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
setattr_, ioprio, me, up = {"x86_64": (314, 251), "aarch64": (274, 30)}[os.uname().machine] + (os.getpid(), os.getppid())
attr = ctypes.create_string_buffer(struct.pack("IIQiIQQQ", 48, 5, 0, 0, 0, 0, 0, 0)); broke = []
def attempt(name, f):
    try: r = f()
    except OSError: return
    if r in (None, 0): broke.append(name)
for pid in {up, 1} - {0, me}:
    attempt("setattr", lambda: libc.syscall(setattr_, pid, attr, 0)); attempt("scheduler", lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)))
    attempt("affinity", lambda: os.sched_setaffinity(pid, {0})); attempt("ioprio", lambda: libc.syscall(ioprio, 1, pid, 3 << 13)); attempt("nice", lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
attempt("ioprio user", lambda: libc.syscall(ioprio, 3, os.getuid(), 3 << 13)); attempt("nice user", lambda: os.setpriority(os.PRIO_USER, os.getuid(), 19))
attempt("fifo", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))); attempt("nice -5", lambda: os.setpriority(os.PRIO_PROCESS, 0, -5))
if broke: print("BREACH sched", broke)
def add(a, b): return a + b if broke else None
