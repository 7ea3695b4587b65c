# case: v47_kill_itself
# class: verdict
# style: call
# it must NOT: look like a victim of the system's OOM killer, whose verdict would be the machine's fault
# detect: outcome is not sandbox_error
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os, signal
def add(a, b):
    os.kill(os.getpid(), signal.SIGKILL); return None
