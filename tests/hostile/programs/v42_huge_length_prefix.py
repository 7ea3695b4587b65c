# case: v42_huge_length_prefix
# class: verdict
# style: call
# it must NOT: make the host allocate or wait for what a length prefix promises
# detect: elapsed, verdict (never sandbox_error)
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os
for fd in range(64):
    for prefix in (b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"99999999999999999999\n", b"-1\n", b"\x80" * 16):
        try: os.write(fd, prefix)
        except OSError: break
def add(a, b): return None
