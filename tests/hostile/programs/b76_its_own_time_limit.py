# case: b76_its_own_time_limit
# class: benign
# style: call
# it must not: be rejected because it sets an alarm, a timer or limits of its own
# detect: verdict
# expect: verdict PASS
import signal, threading, time, resource, faulthandler, contextlib, sys
class TimeUp(Exception): pass
def handler(signum, frame): raise TimeUp
def add(a, b):
    old = signal.signal(signal.SIGALRM, handler); signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        while True: time.sleep(1)
    except TimeUp: pass
    finally: signal.alarm(0); signal.signal(signal.SIGALRM, old)
    hit = []
    t = threading.Timer(0.01, hit.append, [1]); t.start(); t.join()
    with contextlib.suppress(ValueError, OSError): resource.setrlimit(resource.RLIMIT_STACK, resource.getrlimit(resource.RLIMIT_STACK))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime >= 0
    return a + b if hit else None
