# case: v88_filter_on_top
# class: verdict
# style: call
# it must NOT: have its own call refused in a way that passes for the machine's fault (a later write of the harness fails with ENOSPC, EDQUOT, EIO)
# detect: outcome is not sandbox_error
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os, errno
real = os.write
def add(a, b):
    def write(fd, data): raise OSError([errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM][a % 4], "No space left on device")
    os.write = write
    import posix; posix.write = write
    return a + b
