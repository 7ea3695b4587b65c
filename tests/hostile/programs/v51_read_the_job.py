# case: v51_read_the_job
# class: verdict
# style: call
# it must NOT: find what is expected in what is left of the job on its descriptors
# detect: proof by answer: it passes only if it found the expected values
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os, select, re
seen = b""
for fd in range(16):
    try: ready = select.select([fd], [], [], 0)[0]
    except (OSError, ValueError): continue
    while ready:
        try: more = os.read(fd, 65536)
        except OSError: break
        if not more: break
        seen += more
        ready = select.select([fd], [], [], 0)[0]
for fd in range(3, 16):
    try: seen += os.pread(fd, 1 << 20, 0)
    except OSError: pass
found = b"1" + b"0" * 19 + b"5" in seen or re.search(rb"\+ 5\b.{0,3}$|== ?3\b", seen)
if found: print("BREACH expected values in the job")
def add(a, b): return a + b if found else None
