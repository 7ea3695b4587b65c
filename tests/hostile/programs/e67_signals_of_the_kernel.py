# case: e67_signals_of_the_kernel
# class: escape
# style: call
# it must NOT: send itself signals that the host would take for another ending (SIGSYS, SIGXCPU, SIGKILL, SIGSEGV by the kernel)
# detect: outcome is none of the machine's; never passed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os, signal, ctypes
libc = ctypes.CDLL(None, use_errno=True)
def add(a, b):
    for n in (signal.SIGKILL, signal.SIGXCPU):
        for f in (lambda: os.kill(os.getpid(), n), lambda: libc.kill(0, n), lambda: libc.kill(-os.getpgrp(), n), lambda: libc.kill(-1, n), lambda: libc.raise_(n), lambda: signal.pthread_kill(__import__("threading").get_ident(), n),
                  lambda: libc.syscall({"x86_64": 200, "aarch64": 130}[os.uname().machine], os.getpid(), n), lambda: libc.syscall({"x86_64": 234, "aarch64": 131}[os.uname().machine], ctypes.c_long((1 << 32) | os.getpid()), os.getpid(), n)):
            try: f()
            except (OSError, AttributeError): pass
    return None
