# case: r49_reviving_cycles
# class: resource
# style: call
# it must NOT: hang the collector with objects that revive themselves
# detect: elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# slow: waits for the wall limit
import gc
keep = []
class X:
    def __init__(s): s.s = s
    def __del__(s): keep.append(X()); keep.pop().s = X() if len(keep) < 3 else s
def add(a, b):
    while True: X(); gc.collect()
