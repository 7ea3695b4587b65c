# case: v76_stdio_byte_order_mark
# class: verdict
# style: stdio
# it must NOT: pass with a byte-order mark or other invisible characters in the numbers
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys
for line in open(0):
    if line.strip(): sys.stdout.buffer.write(b"\xef\xbb\xbf" + str(sum(map(int, line.split()))).encode() + b"\xe2\x80\x8b\n")
