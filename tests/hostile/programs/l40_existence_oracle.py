# case: l40_existence_oracle
# class: leak
# style: call
# it must NOT: tell existing paths from missing ones by the error of an open, a link, a change of directory (only a mount namespace can hide that: tier A)
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# tiers: A
import os
def kind(path):
    out = []
    for f in (lambda: os.open(path, os.O_RDONLY), lambda: os.readlink(path), lambda: os.chdir(path), lambda: os.access(path, os.F_OK), lambda: os.stat(path).st_size, lambda: os.lstat(path).st_ino, lambda: os.open(path, os.O_PATH), lambda: os.statvfs(path).f_files):
        try: out.append(bool(f() is not False))
        except OSError as e: out.append(e.errno)
    return out
differs = kind("@CANARY@/secret.txt") != kind("@CANARY@/secret.tyt")
if differs: print("BREACH existence")
def add(a, b): return a + b if differs else None
