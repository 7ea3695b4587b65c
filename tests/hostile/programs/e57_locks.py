# case: e57_locks
# class: escape
# style: call
# it must NOT: hold a lock on a file that other processes read
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import fcntl, os, struct
broke = []
fd = os.open(os.__file__, os.O_RDONLY)
for name, f in (("flock ex", lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)), ("flock sh", lambda: fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)), ("posix", lambda: fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)),
                ("ofd", lambda: fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", 0, 0, 0, 0, 0)))):
    try: f(); broke.append(name)
    except OSError: pass
if broke: print("BREACH lock", broke)
def add(a, b): return a + b if broke else None
