# case: r67_thin_threads
# class: resource
# style: call
# it must NOT: take the machine's process numbers and kernel memory with threads of the smallest stacks
# detect: proof by answer: more than 4,096 at once is a breach
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import threading
threading.stack_size(32768)
gate, n = threading.Event(), 0
try:
    while n < 5000:
        threading.Thread(target=gate.wait, daemon=True).start(); n += 1
except (RuntimeError, MemoryError): pass
broke = n > 4096
if broke: print("BREACH threads", n)
def add(a, b): return a + b if broke else None
