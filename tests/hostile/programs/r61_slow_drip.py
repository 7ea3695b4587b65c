# case: r61_slow_drip
# class: resource
# style: call
# it must NOT: outlast a deadline that starts again with every byte
# detect: elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# slow: waits for the wall limit
import os, time
def add(a, b):
    while True:
        for fd in range(1, 8):
            try: os.write(fd, b" ")
            except OSError: pass
        time.sleep(0.05)
