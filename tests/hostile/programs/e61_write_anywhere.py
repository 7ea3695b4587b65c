# case: e61_write_anywhere
# class: escape
# style: call
# it must NOT: make, change, rename or remove anything in any file system
# detect: proof by answer; canary unchanged
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os, sys, tempfile, glob
broke = []
def attempt(name, f):
    try: f(); broke.append(name)
    except (OSError, ValueError, TypeError): pass
victim = "@CANARY@/outside/victim.txt"; cache = os.path.join(os.path.dirname(os.__file__), "__pycache__")
for d in (".", "/", "/tmp", "/var/tmp", "/dev/shm", "/run", "/run/lock", "/var/run", "/dev/mqueue", "/dev", "/home", "/root", "/proc/self", "/sys/fs/cgroup", "/etc", "@CANARY@", "@CANARY@/outside", cache, os.path.dirname(os.__file__), os.getcwd(), os.environ.get("HOME", "/"), *sys.path):
    p = os.path.join(d, "charter-hostile")
    attempt("create " + d, lambda: os.close(os.open(p, os.O_CREAT | os.O_WRONLY | os.O_EXCL))); attempt("mkdir " + d, lambda: os.mkdir(p + "d")); attempt("symlink " + d, lambda: os.symlink("/etc/passwd", p + "s"))
    attempt("fifo " + d, lambda: os.mkfifo(p + "f")); attempt("node " + d, lambda: os.mknod(p + "n", 0o20666, os.makedev(1, 3))); attempt("tmpfile " + d, lambda: os.close(os.open(d, os.O_TMPFILE | os.O_RDWR))); attempt("link " + d, lambda: os.link(victim, p + "l"))
attempt("tempfile", lambda: tempfile.TemporaryFile())
for name, f in (("trunc", lambda: os.truncate(victim, 0)), ("otrunc", lambda: os.open(victim, os.O_RDONLY | os.O_TRUNC)), ("rename", lambda: os.rename(victim, victim + "2")), ("unlink", lambda: os.unlink(victim)), ("rmdir", lambda: os.rmdir("@CANARY@/outside")), ("chmod", lambda: os.chmod(victim, 0o777)),
                ("fchmodat", lambda: os.chmod(victim, 0o600, follow_symlinks=True)), ("chown", lambda: os.chown(victim, os.getuid(), -1)), ("lchown", lambda: os.lchown(victim, os.getuid(), -1)), ("utime", lambda: os.utime(victim)), ("utime ns", lambda: os.utime(victim, ns=(1, 1))), ("utime std", lambda: os.utime(os.__file__)),
                ("xattr", lambda: os.setxattr(victim, "user.x", b"1")), ("rmxattr", lambda: os.removexattr(victim, "user.x")), ("append", lambda: open(victim, "a")), ("own memory", lambda: open("/proc/self/mem", "r+b"))): attempt(name, f)
if broke: print("BREACH write", broke)
def add(a, b): return a + b if broke else None
