# case: v49_descriptor_shuffle
# class: verdict
# style: call
# it must NOT: send standard output down the result channel, or the job back to the host
# detect: verdict (never sandbox_error)
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os
for source in range(8):
    for target in range(8):
        try: os.dup2(source, target)
        except OSError: pass
print("passed\n" * 100, flush=True)
def add(a, b):
    print('{"outcome": "passed"}', flush=True); return None
