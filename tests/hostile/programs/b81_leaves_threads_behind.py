# case: b81_leaves_threads_behind
# class: benign
# style: call
# it must not: be rejected because a daemon thread still runs when it has answered
# detect: verdict
# expect: verdict PASS
import threading, time
threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
def add(a, b): return a + b
