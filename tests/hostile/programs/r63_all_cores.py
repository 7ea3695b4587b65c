# case: r63_all_cores
# class: resource
# style: call
# it must NOT: use more processor time than its limit by many threads that hold no lock of the interpreter, deaf to the warning, so that the kernel kills it
# detect: elapsed; never sandbox_error
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# slow: waits for its limits
import hashlib, threading, signal
signal.signal(signal.SIGXCPU, signal.SIG_IGN)
def burn():
    while True: hashlib.pbkdf2_hmac("sha256", b"x", b"y", 10**6)
for _ in range(8): threading.Thread(target=burn, daemon=True).start()
def add(a, b):
    while True: pass
