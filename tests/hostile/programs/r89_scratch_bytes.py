# case: r89_scratch_bytes
# class: resource
# style: call
# it must NOT: write more to its scratch folder than the limit, by any number of files, holes or truncations
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# scratch: 4194304
import os
n = 0
for i in range(64):
    try:
        fd = os.open("f%d" % i, os.O_CREAT | os.O_RDWR)
        for _ in range(64): n += os.write(fd, b"x" * 65536)
    except OSError: pass
for i in range(64):
    try: n += os.pwrite(os.open("g%d" % i, os.O_CREAT | os.O_RDWR), b"y" * 4096, (1 << 40))
    except OSError: pass
broke = n > 5 << 20
if broke: print("BREACH scratch bytes", n)
def add(a, b): return a + b if broke else None
