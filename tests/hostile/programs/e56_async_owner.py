# case: e56_async_owner
# class: escape
# style: call
# it must NOT: have the kernel send signals for it: F_SETOWN, F_SETSIG, leases, directory notes
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import fcntl, os, signal, struct
broke = []
def attempt(name, fd, command, value):
    try: fcntl.fcntl(fd, command, value); broke.append((name, fd))
    except (OSError, OverflowError): pass
r, w = os.pipe(); lib = os.open(os.path.dirname(os.__file__), os.O_RDONLY); file = os.open(os.__file__, os.O_RDONLY)
for fd in (0, 1, 2, 3, r, w):
    for pid in (os.getppid() or 1, -os.getpgrp(), 1):
        attempt("setown", fd, 8, pid); attempt("setown_ex", fd, 15, struct.pack("ii", 1, pid))
    attempt("setsig", fd, 10, signal.SIGKILL)
for command, value in ((1024, 0), (1026, 0x80000002), (1033, 1), (1036, struct.pack("Q", 1))): attempt("special %d" % command, lib if command == 1026 else file, command, value)
if broke: print("BREACH owner", broke)
def add(a, b): return a + b if broke else None
