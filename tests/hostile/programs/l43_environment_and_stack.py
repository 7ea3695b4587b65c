# case: l43_environment_and_stack
# class: leak
# style: call
# it must NOT: find the caller's secrets in the environment, the argument vector or anywhere on its own stack and heap
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os, ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
wanted = [bytes(c ^ 1 for c in w) for w in (b"UNJ^DOW", b"UNJ^LDL", b"UNJ^GHMD")]      # spelt otherwise, so that the program does not find itself
env = ctypes.POINTER(ctypes.c_void_p).in_dll(libc, "environ")
r, w = os.pipe(); libc.write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
libc.sbrk.restype = ctypes.c_void_p
hits = [k for k, v in os.environ.items() if any(x in (k + v).encode() for x in wanted)]
local = ctypes.c_int(); here = ctypes.addressof(env) if env else 0
libc.getauxval.restype = ctypes.c_ulong
top = libc.getauxval(31) or libc.getauxval(25)                       # AT_EXECFN, AT_RANDOM: the upper end of the stack
for lo, hi in ((top - (1 << 20), top + (1 << 16)), ((libc.sbrk(0) or 0) - (8 << 20), libc.sbrk(0) or 0)):
    a = max(lo, 4096) & ~4095
    while a < hi:
        if libc.write(w, a, 4096) == 4096:
            page = os.read(r, 4096)
            if any(x in page for x in wanted): hits.append(hex(a))
        a += 4096
if hits: print("BREACH secrets", len(hits))
def add(a, b): return a + b if hits else None
