# case: v89_forked_stdin
# class: verdict
# style: stdio
# it must NOT: pass by printing the input's own numbers until one line is right (no state may stay between executions)
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys, os, builtins
n = getattr(builtins, "tries", 0); builtins.tries = n + 1
os.environ["TRIES"] = str(n + 1)
for line in sys.stdin:
    if line.strip(): print(int(line.split()[0]) + n)
