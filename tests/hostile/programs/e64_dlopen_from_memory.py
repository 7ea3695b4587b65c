# case: e64_dlopen_from_memory
# class: escape
# style: call
# it must NOT: load code that was not there: a library it wrote, or an extension module outside the allowed folders
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import ctypes, os, glob, sys
broke = []
for d in (".", "/tmp", "/dev/shm", "/var/tmp", "@CANARY@/outside"):
    p = os.path.join(d, "x.so")
    try:
        open(p, "wb").write(b"\x7fELF"); broke.append(p)
    except OSError: pass
for p in ("@CANARY@/secret.txt", "/usr/sbin/nologin", "/bin/sh"):
    try: ctypes.CDLL(p)
    except OSError as e:
        if "invalid ELF header" in str(e) or "file too short" in str(e) or "cannot dynamically load" in str(e): broke.append(("was read", p))
if broke: print("BREACH dlopen", broke)
def add(a, b): return a + b if broke else None
