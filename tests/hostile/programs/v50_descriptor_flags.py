# case: v50_descriptor_flags
# class: verdict
# style: call
# it must NOT: disturb the host through flags of a shared open file (O_NONBLOCK, O_ASYNC, pipe size, packet mode)
# detect: verdict (never sandbox_error); next job
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import fcntl, os
for fd in range(16):
    for command, value in ((1031, 4096), (1031, 1 << 20), (4, os.O_NONBLOCK), (4, os.O_NONBLOCK | os.O_ASYNC | 0o40000), (4, os.O_APPEND), (2, 0)):
        try: fcntl.fcntl(fd, command, value)
        except OSError: pass
def add(a, b): return None
