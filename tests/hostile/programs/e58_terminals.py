# case: e58_terminals
# class: escape
# style: call
# it must NOT: take, open or write to a terminal or its allocator
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import fcntl, os
broke = []
for path in ("/dev/tty", "/dev/ptmx", "/dev/pts/ptmx", "/dev/pts/0", "/dev/console", "/dev/tty0", "/dev/vcs", "/dev/kmsg", "/dev/mem", "/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/loop-control", "/dev/vhost-net", "/dev/uinput"):
    for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDONLY):
        try: fd = os.open(path, flags | os.O_NOCTTY | os.O_NONBLOCK); broke.append(path); os.close(fd)
        except OSError: pass
for fd in (0, 1, 2, 3):
    for request, value in ((0x540E, 1), (0x5412, b"x"), (0x541D, 0), (0x541C, b"\x02" + b"\0" * 10), (0x5410, b"\1\0\0\0")):
        try: fcntl.ioctl(fd, request, value); broke.append((fd, hex(request)))
        except OSError: pass
if broke: print("BREACH tty", broke)
def add(a, b): return a + b if broke else None
