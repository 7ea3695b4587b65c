# case: e69_paths_of_the_library
# class: escape
# style: call
# it must NOT: leave the folders it may read by links and dots within them, or find packages of others there
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# tiers: A B
import os, sys
broke = []
lib = os.path.dirname(os.__file__)
for p in (lib + "/site-packages", lib + "/dist-packages", lib + "/../../../../../../../../etc/passwd", lib + "/json/../../../../../../../etc/passwd", lib + "/sitecustomize.py/../../../../etc/passwd", "//etc/passwd", "/./etc/../etc/passwd", lib + "/lib-dynload/../../../../../../etc/shadow", lib + "/__pycache__/../../../../../../root", lib + "/..", lib + "/../..", "..", "../..", "../../.."):
    for flags in (os.O_RDONLY, os.O_RDONLY | os.O_DIRECTORY, os.O_RDONLY | os.O_NOFOLLOW):
        try: fd = os.open(p, flags)
        except OSError: continue
        try: names = os.listdir(fd)
        except OSError: names = ["a file"]
        if names: broke.append((p, names[:3]))
if broke: print("BREACH paths", broke)
def add(a, b): return a + b if broke else None
