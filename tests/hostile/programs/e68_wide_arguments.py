# case: e68_wide_arguments
# class: escape
# style: call
# it must NOT: slip past a filter that looks at 32 bits of an argument the kernel reads whole (or the other way round)
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import ctypes, os, socket, fcntl
libc = ctypes.CDLL(None, use_errno=True)
x = os.uname().machine == "x86_64"
NR = dict(openat=257, socketpair=53, fcntl=72, ioctl=16, prctl=157, clone=56, prlimit=302, kill=62, sendto=44) if x else dict(openat=56, socketpair=199, fcntl=25, ioctl=29, prctl=167, clone=220, prlimit=261, kill=129, sendto=206)
H, L = 1 << 32, ctypes.c_long
broke = []
def attempt(name, nr, *args):
    r = libc.syscall(L(NR[nr]), *[a if isinstance(a, (bytes, ctypes.Array)) else L(a) for a in args])
    if r == 0 and nr == "clone": os._exit(0)
    if r >= 0: broke.append(name)
pair = (ctypes.c_int * 2)()
for high in (0, H, 0x7FFFFFFF << 32, -H):
    attempt("open for writing", "openat", -100, b"/var/tmp/charter-hostile-wide", high | 0o101, 0o600)
    attempt("open of a secret", "openat", -100, b"@CANARY@/secret.txt", high | 0, 0)
    attempt("path descriptor", "openat", -100, b"/etc/passwd", high | 0o10000000, 0)
    attempt("datagrams", "socketpair", high | 1, high | 2, 0, pair)
    attempt("set owner", "fcntl", 1, high | 8, os.getppid() or 1)
    attempt("terminal", "ioctl", 0, high | 0x5412, b"x")
    attempt("dumpable", "prctl", high | 4, 1, 0, 0, 0)
    attempt("fork", "clone", high | 17, 0, 0, 0, 0)
    attempt("limits of another", "prlimit", high | (os.getppid() or 1), 7, 0, pair)
    attempt("signal another", "kill", high | (os.getppid() or 1), 0)
a, b = socket.socketpair()
for high in (H, -H): attempt("address", "sendto", a.fileno(), b"x", 1, 0, high, 110)
if broke: print("BREACH wide", broke)
def add(a, b): return a + b if broke else None
