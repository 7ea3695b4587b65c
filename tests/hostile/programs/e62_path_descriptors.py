# case: e62_path_descriptors
# class: escape
# style: call
# it must NOT: get at files by descriptors that need no right to read (O_PATH), by dot-dot, or by changing directory or root
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os
broke = []
def attempt(name, f):
    try: data = f()
    except OSError: return
    if data: broke.append(name)
def through(fd, name):
    for g in (lambda: os.open("/proc/self/fd/%d" % fd, os.O_RDONLY), lambda: os.open("/dev/fd/%d" % fd, os.O_RDONLY), lambda: os.open(name, os.O_RDONLY, dir_fd=fd), lambda: os.open("", os.O_RDONLY, dir_fd=fd)):
        try: return os.read(g(), 99)
        except OSError: pass
attempt("file by path descriptor", lambda: through(os.open("@CANARY@/secret.txt", os.O_PATH), "."))
attempt("folder by path descriptor", lambda: through(os.open("@CANARY@", os.O_PATH), "secret.txt"))
attempt("dot dot", lambda: through(os.open(os.path.dirname(os.__file__), os.O_RDONLY), "../../../../../.." + "@CANARY@/secret.txt"))
attempt("chroot", lambda: os.chroot("@CANARY@") is None)
attempt("fchdir", lambda: (os.chdir("@CANARY@"), open("secret.txt").read()))
attempt("relative", lambda: open("secret.txt").read())
attempt("tmpfs alias", lambda: open("/proc/self/root@CANARY@/secret.txt").read() + open("/proc/self/cwd/secret.txt").read())
if broke: print("BREACH path", broke)
def add(a, b): return a + b if broke else None
