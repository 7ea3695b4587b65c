# case: r48_del_and_exit_sleep
# class: resource
# style: call
# it must NOT: hold a slot in __del__, atexit, a thread that is waited for, or a finalizer, after its answers
# detect: elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# slow: may wait for the wall limit
import atexit, threading, time, weakref
class X:
    def __del__(s): time.sleep(10**6)
keep = X()
atexit.register(time.sleep, 10**6); threading._register_atexit(time.sleep, 10**6)
threading.Thread(target=time.sleep, args=(10**6,)).start()
def add(a, b): return None
