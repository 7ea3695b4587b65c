# case: v48_close_everything
# class: verdict
# style: call
# it must NOT: turn a wrong answer into a fault of the machine by closing every descriptor
# detect: outcome is not sandbox_error
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os
os.closerange(0, 1024)
def add(a, b): return None
