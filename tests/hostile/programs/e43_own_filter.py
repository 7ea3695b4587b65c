# case: e43_own_filter
# class: escape
# style: call
# it must NOT: make the harness's own system calls lie by a filter of its own (write pretends, exit fails)
# detect: verdict (never sandbox_error), elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# slow: where it may add a filter, it waits for the wall limit
import ctypes, struct, os
libc = ctypes.CDLL(None, use_errno=True)
NR = {"x86_64": (1, 231, 60), "aarch64": (64, 94, 93)}[os.uname().machine]
code = [struct.pack("HBBI", 0x20, 0, 0, 0)]
for nr in NR: code += [struct.pack("HBBI", 0x15, 0, 1, nr), struct.pack("HBBI", 0x06, 0, 0, 0x00050000)]
code.append(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000))
raw = ctypes.create_string_buffer(b"".join(code))
prog = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(raw)))
def add(a, b):
    libc.prctl(38, 1, 0, 0, 0); libc.prctl(22, 2, prog)
    libc.syscall({"x86_64": 317, "aarch64": 277}[os.uname().machine], 1, 1, prog)
    return None
