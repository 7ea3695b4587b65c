# case: v82_stdio_right_then_abort
# class: verdict
# style: stdio
# it must NOT: pass although the program crashed after its last line
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys, os
for line in sys.stdin:
    if line.strip(): print(sum(map(int, line.split())), flush=True)
os.abort()
