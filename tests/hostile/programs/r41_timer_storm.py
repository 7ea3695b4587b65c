# case: r41_timer_storm
# class: resource
# style: call
# it must NOT: keep the host busy or confused with timers
# detect: elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# slow: waits for the wall limit
import signal, time
for which, s in ((0, signal.SIGALRM), (1, signal.SIGVTALRM), (2, signal.SIGPROF)):
    signal.signal(s, lambda *a: None); signal.setitimer(which, 1e-6, 1e-6)
def add(a, b):
    while True: time.sleep(1)
