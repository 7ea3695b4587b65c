# case: e44_seccomp_tsync_notify
# class: escape
# style: call
# it must NOT: widen its filter from another thread, or get a listener that answers its own calls
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import ctypes, struct, os, threading, socket
libc = ctypes.CDLL(None, use_errno=True)
nr = {"x86_64": 317, "aarch64": 277}[os.uname().machine]
raw = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000))
prog = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 1, ctypes.addressof(raw)))
broke = []
def attempt():
    for flags in (1, 8, 1 | 16, 4):
        r = libc.syscall(nr, 1, flags, prog)
        if r > 0 and flags & 8: broke.append("listener")
    libc.prctl(21, 0, 0, 0, 0)
    try: socket.socket(socket.AF_UNIX); broke.append("socket")
    except OSError: pass
t = threading.Thread(target=attempt); t.start(); t.join(); attempt()
if broke: print("BREACH", broke)
def add(a, b): return a + b if broke else None
