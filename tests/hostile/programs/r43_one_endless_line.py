# case: r43_one_endless_line
# class: resource
# style: stdio
# it must NOT: make the host hold an endless line
# detect: verdict is output_limit
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os
block = b"3" * 65536
while True: os.write(1, block)
