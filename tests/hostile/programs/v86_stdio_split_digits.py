# case: v86_stdio_split_digits
# class: verdict
# style: stdio
# it must NOT: pass a comparator that drops white space inside a line
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys
for line in sys.stdin:
    if line.strip(): print(*str(sum(map(int, line.split()))))
