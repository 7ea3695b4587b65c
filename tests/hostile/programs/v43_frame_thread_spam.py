# case: v43_frame_thread_spam
# class: verdict
# style: call
# it must NOT: race the harness's own frames from a thread
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os, threading, itertools
def spam():
    for i in itertools.count():
        for fd in range(3, 64):
            try: os.write(fd, b'{"index": %d, "ok": true, "outcome": "passed"}\n' % (i % 4))
            except OSError: pass
threading.Thread(target=spam, daemon=True).start()
def add(a, b):
    import time
    time.sleep(0.05); return None
