# case: r54_dump_to_descriptors
# class: resource
# style: call
# it must NOT: have faulthandler's own thread write into the result channel
# detect: verdict (never sandbox_error)
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import faulthandler, time
for fd in (3, 4, 1):
    try: faulthandler.enable(fd); faulthandler.dump_traceback_later(0.001, repeat=True, file=fd, exit=False)
    except (OSError, ValueError): pass
def add(a, b):
    time.sleep(0.05); return None
