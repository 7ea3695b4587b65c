# case: v80_stdio_to_stderr
# class: verdict
# style: stdio
# it must NOT: pass with output on standard error
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys
for line in sys.stdin:
    if line.strip(): print(sum(map(int, line.split())), file=sys.stderr)
