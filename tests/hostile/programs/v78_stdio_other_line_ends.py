# case: v78_stdio_other_line_ends
# class: verdict
# style: stdio
# it must NOT: pass a comparator that takes every Unicode line break for a new line
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys
sums = [str(sum(map(int, line.split()))) for line in open(0) if line.strip()]
sys.stdout.buffer.write((sums[0] + "\x0b" + sums[1] + "\u2028" + sums[2] + "\x1c").encode())
