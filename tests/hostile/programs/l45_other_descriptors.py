# case: l45_other_descriptors
# class: leak
# style: call
# it must NOT: learn anything through its descriptors: peers, credentials, unread bytes, terminals, paths
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os, socket, stat, array, fcntl, termios, struct
broke = []
for fd in range(1024):
    try: st = os.fstat(fd)
    except OSError: continue
    if stat.S_ISDIR(st.st_mode): broke.append((fd, "directory"))
    if stat.S_ISREG(st.st_mode): broke.append((fd, "file", st.st_size))
    if stat.S_ISBLK(st.st_mode) or os.isatty(fd): broke.append((fd, "device"))
    if stat.S_ISSOCK(st.st_mode):
        try:
            s = socket.socket(fileno=os.dup(fd))
            for f in (s.getpeername, s.getsockname):
                if f(): broke.append((fd, f()))
        except OSError: pass
if broke: print("BREACH descriptors", broke)
def add(a, b): return a + b if broke else None
