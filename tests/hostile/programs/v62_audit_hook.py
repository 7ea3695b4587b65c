# case: v62_audit_hook
# class: verdict
# style: call
# it must NOT: make every later step of the harness fail and be taken for a fault of the machine
# detect: outcome is not sandbox_error
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys
def hook(event, args):
    raise RuntimeError("sandbox_error: " + event)
def add(a, b):
    sys.addaudithook(hook); return None
