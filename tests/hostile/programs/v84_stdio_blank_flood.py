# case: v84_stdio_blank_flood
# class: verdict
# style: stdio
# it must NOT: pass with right lines and two megabytes of white space, which a comparator that strips would not see
# detect: verdict is output_limit
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys, os
for line in sys.stdin:
    if line.strip(): print(sum(map(int, line.split())), flush=True)
for _ in range(32): os.write(1, b" \n" * 32768)
