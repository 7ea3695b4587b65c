# case: r65_close_and_linger
# class: resource
# style: stdio
# it must NOT: leave the host waiting, or be judged before its end, by closing its output and staying
# detect: elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# slow: waits for the wall limit
import os, time
for fd in range(64):
    try: os.close(fd)
    except OSError: pass
time.sleep(10**6)
