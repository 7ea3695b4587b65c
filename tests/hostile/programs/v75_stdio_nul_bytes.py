# case: v75_stdio_nul_bytes
# class: verdict
# style: stdio
# it must NOT: pass a comparator that stops at a NUL
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys
data = sys.stdin.read().split("\n")
sys.stdout.write("\n".join(str(sum(map(int, l.split()))) for l in data if l.strip()) + "\n\0 and more\n")
