# case: b74_asks_about_files
# class: benign
# style: stdio
# it must not: be rejected because it looks whether files are there, as contest programs do
# detect: verdict
# expect: verdict PASS
import os, sys, pathlib
if os.path.exists("input.txt"): sys.stdin = open("input.txt")
if os.path.isfile(os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "in.txt")) or os.environ.get("LOCAL") or os.getenv("ONLINE_JUDGE") == "x": sys.stdin = open("in.txt")
try: sys.stdin = open("input.txt", "r")
except FileNotFoundError: pass
try: sys.stdout = open("output.txt", "r")
except FileNotFoundError: pass
if sys.stdin.isatty(): print("> ", end="")
for line in sys.stdin:
    if line.strip(): print(sum(map(int, line.split())))
