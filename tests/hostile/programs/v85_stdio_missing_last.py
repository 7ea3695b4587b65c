# case: v85_stdio_missing_last
# class: verdict
# style: stdio
# it must NOT: pass with the last line missing, or with a wrong one among many right ones
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys
lines = [line for line in sys.stdin if line.strip()]
for line in lines[:-1]: print(sum(map(int, line.split())))
print()
