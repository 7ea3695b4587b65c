# case: e70_out_of_the_scratch_folder
# class: escape
# style: call
# it must NOT: reach anything beside its scratch folder from it
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# runs: 2
# scratch: 4194304
import os, ctypes, stat
libc = ctypes.CDLL(None, use_errno=True)
broke = []
def attempt(name, f):
    try: r = f()
    except OSError: return
    if r is not False: broke.append(name)
open("own", "w").write("x")
for name, f in (("symlink", lambda: os.symlink("@CANARY@/secret.txt", "l")), ("link", lambda: os.link("@CANARY@/secret.txt", "h")), ("fifo", lambda: os.mkfifo("p")), ("node", lambda: os.mknod("n", 0o20666, os.makedev(1, 5))), ("bind a socket", lambda: __import__("socket").socket(1).bind("s")),
                ("rename in", lambda: os.rename("@CANARY@/outside/victim.txt", "v")), ("rename out", lambda: os.rename("own", "@CANARY@/outside/own")), ("create beside", lambda: open("@CANARY@/outside/new", "w")), ("truncate", lambda: os.open("@CANARY@/outside/victim.txt", os.O_RDONLY | os.O_TRUNC)),
                ("truncate the library", lambda: os.open(os.__file__, os.O_RDONLY | os.O_TRUNC) and False), ("write the library", lambda: open(os.__file__, "a")), ("remove", lambda: os.unlink("@CANARY@/outside/victim.txt")), ("chmod", lambda: os.chmod("own", 0o6777)), ("dot dot", lambda: os.open("../charter-hostile", os.O_CREAT | os.O_WRONLY)),
                ("mkdir", lambda: os.mkdir("/charter-hostile")), ("var tmp", lambda: open("/var/tmp/charter-hostile", "w")), ("library by its other name", lambda: open("/mnt/charter-hostile", "w")), ("packages by the other name", lambda: os.listdir("/mnt/site-packages") or False), ("host", lambda: os.listdir("/etc") or False), ("unmount", lambda: libc.umount2(b"/tmp", 2) == 0), ("lock", lambda: __import__("fcntl").flock(os.open(os.__file__, 0), 2)),
                ("xattr", lambda: os.setxattr("own", "user.a", b"1")), ("exchange", lambda: libc.renameat2(-100, b"own", -100, b"@CANARY@/outside/victim.txt", 2) == 0), ("stat of a secret", lambda: os.stat("@CANARY@/secret.txt").st_size)): attempt(name, f)
if os.path.exists("charter-mark"): broke.append("mark of an earlier job")
open("charter-mark", "w").close()
if broke: print("BREACH scratch", broke)
def add(a, b): return a + b if broke else None
