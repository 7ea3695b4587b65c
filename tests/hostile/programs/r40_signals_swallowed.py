# case: r40_signals_swallowed
# class: resource
# style: call
# it must NOT: outlive its limits by ignoring or handling every signal
# detect: elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# slow: waits for the wall limit
import signal
for s in range(1, 65):
    try: signal.signal(s, lambda *a: None)
    except (OSError, ValueError): pass
try: signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
except (OSError, ValueError): pass
while True:
    try:
        while True: pass
    except BaseException: pass
