# case: v41_half_frame_exit
# class: verdict
# style: call
# it must NOT: pass, or look like a fault of the machine, by ending in the middle of a frame
# detect: verdict (never sandbox_error)
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os
def add(a, b):
    for fd in range(64):
        for half in (b"\x10\0\0\0", b"\0\0\0\x10", b'{"ok": tr', b"\0"):
            try: os.write(fd, half)
            except OSError: break
    os._exit(0)
