# case: r62_stop_in_a_frame
# class: resource
# style: call
# it must NOT: block the host's read by stopping in the middle of a frame
# detect: elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# slow: waits for the wall limit
import os, signal
def add(a, b):
    for fd in range(3, 16):
        try: os.write(fd, b"\x40\0\0\0{")
        except OSError: pass
    os.kill(os.getpid(), signal.SIGSTOP)
