# case: v44_last_words
# class: verdict
# style: call
# it must NOT: have the last word from atexit, a finalizer or __del__ after the wrong answers were given
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import atexit, os, weakref, sys
def speak():
    for fd in range(64):
        for text in (b"passed\n", b'{"outcome": "passed", "passed": 3, "total": 3}\n', b"\x06\0\0\0passed"):
            try: os.write(fd, text)
            except OSError: break
class X:
    def __del__(self): speak(); os._exit(0)
x = X(); sys.modules["zzz_last"] = x
weakref.finalize(speak, speak); atexit.register(speak)
def add(a, b): return None
