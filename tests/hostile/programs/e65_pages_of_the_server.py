# case: e65_pages_of_the_server
# class: escape
# style: call
# it must NOT: write to memory it shares with the process that started it (shared mappings)
# detect: proof by answer on the second run: a mark left in a shared page
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# runs: 2
import ctypes, os, mmap
libc = ctypes.CDLL(None, use_errno=True)
broke = False
for path in ("/proc/self/maps", "/proc/self/smaps", "/proc/self/map_files"):
    try: lines = open(path).read().splitlines()
    except OSError: continue
    broke |= any(" rw-s " in line for line in lines)
mark = ctypes.create_string_buffer(b"CHARTER" + b"-RESIDUE")
seen = os.environ.get("CHARTER_RESIDUE") or getattr(__import__("sys"), "charter_residue", None) or getattr(__import__("builtins"), "charter_residue", None)
os.environ["CHARTER_RESIDUE"] = "1"; __import__("sys").charter_residue = __import__("builtins").charter_residue = mark
broke = broke or bool(seen)
if broke: print("BREACH shared")
def add(a, b): return a + b if broke else None
