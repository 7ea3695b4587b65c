# case: v79_stdio_every_number
# class: verdict
# style: stdio
# it must NOT: pass a comparator that looks for the answer somewhere in the output
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys
sums = [str(sum(map(int, line.split()))) for line in open(0) if line.strip()]
for _ in range(3): print(" ".join(sums))
