# case: e50_exec_in_place
# class: escape
# style: stdio
# it must NOT: become another program
# detect: proof by output: only the other program prints the sums
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os, sys, glob
sums = "\n".join(str(sum(map(int, l.split()))) for l in open(0) if l.strip())
for path in ("/bin/echo", "/usr/bin/echo", "/bin/busybox", "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"):
    for args in ([path, sums], [path, "echo", sums], [path, "/bin/echo", sums]):
        try: os.execv(path, args)
        except OSError: pass
try: os.execv(sys.executable or "/usr/bin/python3", ["python3", "-S", "-c", "import sys; print(sys.argv[1])", sums])
except OSError: pass
