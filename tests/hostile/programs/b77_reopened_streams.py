# case: b77_reopened_streams
# class: benign
# style: stdio
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import io, sys, codecs, builtins
sys.stdin = codecs.getreader("utf-8")(sys.stdin.detach()); sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", line_buffering=True)
sys.stdout.reconfigure(newline="\n", errors="replace")
print = lambda *a, _p=builtins.print: _p(*a, flush=True)
lines = iter(sys.stdin.read().split("\n"))
for line in lines:
    if line.strip(): print(sum(map(int, line.split())))
sys.stdin.close()
