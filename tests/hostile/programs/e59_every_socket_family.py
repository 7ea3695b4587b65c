# case: e59_every_socket_family
# class: escape
# style: call
# it must NOT: make a socket of any family or type, or a pair of any kind but an AF_UNIX stream
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import socket
broke = []
for family in range(48):
    for kind in (1, 2, 3, 4, 5, 10, 1 | 0o2000000, 2 | 0o4000):
        for protocol in (0, 1, 3, 6, 12, 15, 16, 17, 255, 262):
            try: socket.socket(family, kind, protocol).close(); broke.append((family, kind, protocol))
            except (OSError, ValueError): pass
        if not (family == socket.AF_UNIX and kind in (1, 1 | 0o2000000)):
            try: [s.close() for s in socket.socketpair(family, kind)]; broke.append(("pair", family, kind))
            except (OSError, ValueError): pass
if broke: print("BREACH sockets", len(broke), broke[:5])
def add(a, b): return a + b if broke else None
