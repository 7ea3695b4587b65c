# case: v64_wipe_interpreter
# class: verdict
# style: call
# it must NOT: turn a wrong answer into a fault of the machine by emptying the interpreter
# detect: outcome is not sandbox_error
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys, builtins
def add(a, b):
    sys.modules.clear(); builtins.__dict__.clear(); return None
