# case: v46_stop_itself
# class: verdict
# style: call
# it must NOT: hold a slot by stopping itself with SIGSTOP
# detect: elapsed; verdict (never sandbox_error)
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# slow: waits for the wall limit
import os, signal
def add(a, b):
    os.kill(os.getpid(), signal.SIGSTOP); return None
