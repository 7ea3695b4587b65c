# case: l46_memory_of_others
# class: leak
# style: call
# it must NOT: read or write memory of another process by any call that takes a process number
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
NR = {"x86_64": dict(vm_readv=310, vm_writev=311, madvise=440, kcmp=312, move=279, migrate=256, pidfd=434, getfd=438, mrelease=448, robust=274, ptrace=101), "aarch64": dict(vm_readv=270, vm_writev=271, madvise=440, kcmp=272, move=239, migrate=238, pidfd=434, getfd=438, mrelease=448, robust=100, ptrace=117)}[os.uname().machine]
buf = ctypes.create_string_buffer(64); iov = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(buf), 64)); broke = []
for pid in {os.getppid(), 1} - {0, os.getpid()}:
    for name, args in (("vm_readv", (pid, iov, 1, iov, 1, 0)), ("vm_writev", (pid, iov, 1, iov, 1, 0)), ("kcmp", (os.getpid(), pid, 2, 0, 0)), ("move", (pid, 0, 0, 0, 0, 0)), ("migrate", (pid, 8, iov, iov)), ("pidfd", (pid, 0)), ("robust", (pid, iov, iov)), ("ptrace", (0x4206, pid, 0, 0))):
        ctypes.set_errno(0)
        r = libc.syscall(NR[name], *args)
        if r >= 0 or ctypes.get_errno() == 14: broke.append((name, pid, r))
        if name == "ptrace" and r == 0: libc.syscall(NR["ptrace"], 17, pid, 0, 0)
if broke: print("BREACH memory", broke)
def add(a, b): return a + b if broke else None
