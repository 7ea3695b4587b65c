# case: r90_scratch_inodes
# class: resource
# style: call
# it must NOT: take kernel memory with empty files and folders, which a limit on bytes does not count
# detect: proof by answer: more than 20,000 in a second
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# scratch: 4194304
# slow: makes files for a second
import os, time
n, until = 0, time.monotonic() + 1.2
try:
    while time.monotonic() < until and n <= 20000:
        os.close(os.open("%x" % n, os.O_CREAT | os.O_WRONLY)); n += 1
except OSError: pass
broke = n > 20000
if broke: print("BREACH inodes", n)
def add(a, b): return a + b if broke else None
