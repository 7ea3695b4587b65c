# case: v74_stdio_trailing_text
# class: verdict
# style: stdio
# it must NOT: pass with the right lines and something after them
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys
for line in sys.stdin:
    if line.strip(): print(sum(map(int, line.split())))
print("4")
