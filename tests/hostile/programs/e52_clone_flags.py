# case: e52_clone_flags
# class: escape
# style: call
# it must NOT: make a process or a namespace with clone or clone3
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
clone, fork, vfork = {"x86_64": (56, 57, None), "aarch64": (220, None, None)}[os.uname().machine]
broke = []
def attempt(name, *args):
    r = libc.syscall(*args)
    if r == 0: os._exit(0)
    if r > 0: broke.append(name)
for name, flags in (("sigchld", 17), ("none", 0), ("parent", 0x8000 | 17), ("untraced", 0x800000 | 17), ("newuser", 0x10000000 | 17), ("newpid", 0x20000000 | 17), ("newns", 0x20000 | 17), ("newnet", 0x40000000 | 17), ("io", 0x80000000 | 17), ("files", 0x400 | 17), ("sigkill at exit", 9)):
    attempt(name, clone, ctypes.c_ulong(flags), 0, 0, 0, 0)
for flags in (0, 0x10000000, 0x200000000, 0x100000000):
    args = ctypes.create_string_buffer(struct.pack("11Q", flags, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0))
    attempt("clone3 %x" % flags, 435, args, 88)
if fork: attempt("fork", fork)
if broke: print("BREACH clone", broke)
def add(a, b): return a + b if broke else None
