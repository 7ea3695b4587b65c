# case: b82_stdio_daemon_thread
# class: benign
# style: stdio
# it must not: be rejected, or waited for, because a daemon thread still runs at its end
# detect: verdict
# expect: verdict PASS
import sys, threading, time
threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
for line in sys.stdin:
    if line.strip(): print(sum(map(int, line.split())))
