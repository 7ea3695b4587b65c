# case: l44_residue_between_jobs
# class: leak
# style: call
# it must NOT: leave a mark that a later job of the same slot can read (keyrings, IPC, names, offsets, locks, files, timers)
# detect: proof by answer on the second run
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# runs: 2
import os, ctypes, socket, fcntl, sys, struct, resource
libc = ctypes.CDLL(None, use_errno=True)
NR = {"x86_64": (248, 250, 29, 240, 64), "aarch64": (217, 219, 194, 180, 190)}[os.uname().machine]
hits = []
for ring in (-3, -4, -5, -2):
    if libc.syscall(NR[1], 10, ring, b"user", b"charter-residue", 0) > 0: hits.append(("keyring", ring))
    libc.syscall(NR[0], b"user", b"charter-residue", b"mark", 4, ring)
if libc.syscall(NR[2], 0x43484152, 4096, 0o600) >= 0: hits.append("shm")
libc.syscall(NR[2], 0x43484152, 4096, 0o1600)
if libc.syscall(NR[4], 0x43484152, 1, 0o600) >= 0: hits.append("sem")
libc.syscall(NR[4], 0x43484152, 1, 0o1600)
if libc.syscall(NR[3], b"charter-residue", 2, 0, 0) >= 0: hits.append("mq")
libc.syscall(NR[3], b"charter-residue", 0o102, 0o600, 0)
for d in ("/dev/shm", "/tmp", "/var/tmp", ".", "/run"):
    p = os.path.join(d, "charter-residue")
    try: open(p).close(); hits.append(p)
    except OSError: pass
for d in ("/dev/shm", "/tmp", "/var/tmp", ".", "/run"):
    try: open(os.path.join(d, "charter-residue"), "x").close()
    except OSError: pass
for fd in range(16):                                   # looked at first, changed below: some may share one open file
    try:
        if os.lseek(fd, 0, os.SEEK_CUR) == 4711: hits.append(("offset", fd))
    except OSError: pass
    try:
        if fcntl.fcntl(fd, 3) & os.O_NONBLOCK: hits.append(("flags", fd))
    except OSError: pass
    try:
        if fcntl.fcntl(fd, 1032) == 8192 and fd > 2: hits.append(("pipe size", fd))
    except OSError: pass
for fd in range(16):
    for change in (lambda: os.lseek(fd, 4711, os.SEEK_SET), lambda: fcntl.fcntl(fd, 4, fcntl.fcntl(fd, 3) | os.O_NONBLOCK)):
        try: change()
        except OSError: pass
name = ctypes.create_string_buffer(16)
if libc.prctl(16, name, 0, 0, 0) == 0 and name.value == b"residue": hits.append("comm")
libc.prctl(15, b"residue", 0, 0, 0)
if os.umask(0o123) == 0o123: hits.append("umask")
try:
    if os.getpriority(os.PRIO_PROCESS, 0) == 7: hits.append("nice")
    os.setpriority(os.PRIO_PROCESS, 0, 7)
except OSError: pass
if hits: print("BREACH residue", hits)
def add(a, b): return a + b if hits else None
