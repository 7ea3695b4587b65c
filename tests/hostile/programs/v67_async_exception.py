# case: v67_async_exception
# class: verdict
# style: call
# it must NOT: throw an exception into the harness's thread between its steps
# detect: verdict (never sandbox_error)
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import ctypes, threading, time, _thread
main = threading.main_thread().ident
class Skip(BaseException): pass
def throw():
    for _ in range(2000):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(main), ctypes.py_object(Skip)); _thread.interrupt_main(); time.sleep(0)
def add(a, b):
    threading.Thread(target=throw, daemon=True).start(); return None
