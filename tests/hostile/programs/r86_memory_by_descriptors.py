# case: r86_memory_by_descriptors
# class: resource
# style: call
# it must NOT: hold memory of the kernel that no limit of the process counts (pipes, socket buffers, queues)
# detect: proof by answer: more than 64 MiB
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os, socket, fcntl
held, keep = 0, []
try:
    while True:
        a, b = socket.socketpair(); keep += [a, b]
        for s in (a, b):
            s.setblocking(False)
            try: s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 20)
            except OSError: pass
            try:
                while True: held += s.send(b"x" * 65536)
            except OSError: pass
except OSError: pass
try:
    while True:
        r, w = os.pipe(); os.set_blocking(w, False)
        try: fcntl.fcntl(w, 1031, 1 << 20)
        except OSError: pass
        try:
            while True: held += os.write(w, b"x" * 65536)
        except OSError: pass
except OSError: pass
broke = held > 64 << 20
if broke: print("BREACH kernel memory", held)
def add(a, b): return a + b if broke else None
