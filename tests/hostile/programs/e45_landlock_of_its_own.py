# case: e45_landlock_of_its_own
# class: escape
# style: call
# it must NOT: widen what it may open with a Landlock ruleset of its own
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
attr = ctypes.create_string_buffer(struct.pack("QQQ", (1 << 13) - 1, 0, 0)); broke = False
fd = libc.syscall(444, attr, 8, 0)
if fd >= 0:
    try: libc.syscall(445, fd, 1, ctypes.create_string_buffer(struct.pack("Qi", (1 << 13) - 1, os.open("/", os.O_PATH))), 0)
    except OSError: pass
    libc.prctl(38, 1, 0, 0, 0); libc.syscall(446, fd, 0)
for path in ("@CANARY@/secret.txt", "/etc/passwd"):
    try: open(path).read(); broke = True; print("BREACH landlock", path)
    except OSError: pass
def add(a, b): return a + b if broke else None
