# case: r68_checker_reply_flood
# class: resource
# style: pytest
# it must NOT: make the host hold endless well-formed answers that nobody asked for
# detect: memory of the host; elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os
b = b'{"ok":"' + b"x" * 60000 + b'"}'
block = len(b).to_bytes(4, "big") + b
def add(a, b):
    while True: os.write(3, block)
