# case: r42_tiny_writes
# class: resource
# style: stdio
# it must NOT: make the reader spend a system call and an allocation for every byte
# detect: elapsed; output_limit or timeout
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# slow: may need the wall limit
import os
while True: os.write(1, b"x")
