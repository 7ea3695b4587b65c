# case: r45_result_flood
# class: resource
# style: call
# it must NOT: make the host hold endless bytes from the result channel
# detect: verdict (never sandbox_error); memory of the host
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os, time
def add(a, b):
    block, end = b"\x41" * 65536, time.monotonic() + 30
    while time.monotonic() < end:
        sent = 0
        for fd in range(3, 32):
            try: sent += os.write(fd, block)
            except OSError: pass
        if not sent: return None
    return None
