# case: e49_memfd_execveat
# class: escape
# style: stdio
# it must NOT: run a program from memory
# detect: proof by output: only the other program prints the sums
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
sums = "\n".join(str(sum(map(int, l.split()))) for l in open(0) if l.strip())
fd = libc.syscall({"x86_64": 319, "aarch64": 279}[os.uname().machine], b"x", 0)
if fd < 0: fd = os.open("/dev/shm/x", os.O_RDWR | os.O_CREAT, 0o700)
os.write(fd, open("/bin/echo", "rb").read())
argv = (ctypes.c_char_p * 3)(b"echo", sums.encode(), None)
libc.syscall({"x86_64": 322, "aarch64": 281}[os.uname().machine], fd, b"", argv, None, 0x1000)
os.execve(fd, ["echo", sums], {})
