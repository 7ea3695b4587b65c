# case: e40_raw_syscall
# class: escape
# style: call
# it must NOT: reach forbidden system calls from machine code of its own, past libc
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import ctypes, mmap, os
CODE, NR = {"x86_64": ("4889f84889f74889d64889ca0f05c3", {"socket": 41, "fork": 57, "memfd_create": 319, "inotify_init1": 294, "ptrace": 101}),
            "aarch64": ("e80300aae00301aae10302aae20303aa010000d4c0035fd6", {"socket": 198, "memfd_create": 279, "inotify_init1": 26, "ptrace": 117})}[os.uname().machine]
page = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC); page.write(bytes.fromhex(CODE))
raw = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_long] * 4)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
name = ctypes.create_string_buffer(b"x"); broke = False
for call, args in (("socket", (1, 1, 0)), ("socket", (2, 2, 0)), ("memfd_create", (ctypes.addressof(name), 0, 0)), ("inotify_init1", (0, 0, 0)), ("ptrace", (0, 0, 0))):
    r = raw(NR[call], *args); broke |= r >= 0; print("BREACH raw" if r >= 0 else "raw", call, r)
if "fork" in NR:
    r = raw(NR["fork"], 0, 0, 0)
    if r == 0: os._exit(0)
    broke |= r > 0
def add(a, b): return a + b if broke else None
