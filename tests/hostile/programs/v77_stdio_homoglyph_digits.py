# case: v77_stdio_homoglyph_digits
# class: verdict
# style: stdio
# it must NOT: pass a comparator that reads numbers (int() takes digits of every script)
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys
table = {ord(str(d)): chr(0xFF10 + d) for d in range(10)}
for line in open(0):
    if line.strip(): sys.stdout.buffer.write((str(sum(map(int, line.split()))).translate(table) + "\n").encode())
