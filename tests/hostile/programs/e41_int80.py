# case: e41_int80
# class: escape
# style: call
# it must NOT: reach system calls by the 32-bit gate, whose numbers mean other calls
# detect: proof by answer; the process dies at the first one
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import ctypes, mmap, os
if os.uname().machine != "x86_64": raise SystemExit("no such gate here")
page = mmap.mmap(-1, 4096, prot=7, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40); page.write(bytes.fromhex("5389f889f34189d089ca4489c1cd805bc3"))
raw = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_long] * 4)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
broke = False
for name, nr, args in (("getpid", 20, (0, 0, 0)), ("socket", 359, (1, 1, 0)), ("inotify_init", 291, (0, 0, 0)), ("epoll_create", 254, (1, 0, 0))):
    r = raw(nr, *args); broke |= r >= 0; print("BREACH int80" if r >= 0 else "int80", name, r)
def add(a, b): return a + b if broke else None
