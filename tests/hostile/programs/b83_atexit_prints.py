# case: b83_atexit_prints
# class: benign
# style: stdio
# it must not: be rejected because its output comes from an exit function, a thread or a finalizer
# detect: verdict
# expect: verdict PASS
import atexit, sys, threading
lines = [line for line in sys.stdin if line.strip()]
out = []
t = threading.Thread(target=lambda: out.extend(sum(map(int, line.split())) for line in lines)); t.start()
@atexit.register
def last():
    t.join()
    print(*out, sep="\n")
