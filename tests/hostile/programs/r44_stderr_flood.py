# case: r44_stderr_flood
# class: resource
# style: call
# it must NOT: fill a pipe, a log or the host's memory through standard error
# detect: elapsed; bytes kept by the host
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# slow: waits for the wall limit
import os
block = b"\x1b[31mE" * 20000
def add(a, b):
    while True:
        try: os.write(2, block)
        except OSError: return None
