# case: r67_thin_threads
# class: resource
# style: call
# it must NOT: take the machine's process numbers and kernel memory with threads that are almost nothing
# detect: proof by answer: more than 4,096 at once is a breach
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import ctypes, time
libc = ctypes.CDLL(None, use_errno=True)
attr = ctypes.create_string_buffer(128)
libc.pthread_attr_init(attr); libc.pthread_attr_setstacksize(attr, ctypes.c_size_t(16384)); libc.pthread_attr_setguardsize(attr, ctypes.c_size_t(0))
thread, n, until = ctypes.c_ulong(), 0, time.monotonic() + 1.2
while n <= 4096 and time.monotonic() < until:
    if libc.pthread_create(ctypes.byref(thread), attr, libc.pause, None): break
    n += 1
broke = n > 4096
if broke: print("BREACH threads", n)
def add(a, b): return a + b if broke else None
