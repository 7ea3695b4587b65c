# case: e60_reuse_a_pair
# class: escape
# style: call
# it must NOT: turn an allowed socket pair into a connection to somebody else, or bind, listen or send by address with it
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import socket, ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
broke = []
a, b = socket.socketpair()
unspec = ctypes.create_string_buffer(struct.pack("H14x", 0))
libc.connect(a.fileno(), unspec, 16)
for name in ("\0charter-canary", "\0charter-dgram", "@CANARY@/sock", "@CANARY@/dgram", "/run/systemd/journal/socket", "/var/run/docker.sock"):
    for how, f in (("connect", lambda: a.connect(name)), ("sendto", lambda: b.sendto(b"hit", name)), ("sendmsg", lambda: b.sendmsg([b"hit"], [], 0, name))):
        try: f(); broke.append((how, name))
        except OSError: pass
for how, f in (("bind", lambda: a.bind("\0charter-hostile")), ("autobind", lambda: a.bind("")), ("listen", lambda: (a.listen(), a.accept()))):
    try: a.settimeout(0.1); f(); broke.append(how)
    except OSError: pass
if broke: print("BREACH pair", broke)
def add(a, b): return a + b if broke else None
