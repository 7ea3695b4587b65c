# case: e51_new_process
# class: escape
# style: stdio
# it must NOT: start another process, by any of the ways libc has
# detect: proof by output: only the child prints the sums
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os, sys, ctypes, subprocess
libc = ctypes.CDLL(None, use_errno=True)
sums = "\n".join(str(sum(map(int, l.split()))) for l in open(0) if l.strip()) + "\n"
os.environ["SUMS"] = sums
for f in (lambda: os.posix_spawn("/bin/echo", ["echo", "-n", sums], {}), lambda: libc.system(b'printf %s "$SUMS"') == 0 or 1 / 0, lambda: libc.popen(b'printf %s "$SUMS" >&1', b"r") or 1 / 0,
          lambda: subprocess.run(["/bin/echo", "-n", sums], check=True), lambda: os.fork() or (os.write(1, sums.encode()), os._exit(0))):
    try: f(); break
    except Exception: pass
import time; time.sleep(0.3)
