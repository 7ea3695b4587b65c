# case: e42_x32_numbers
# class: escape
# style: call
# it must NOT: reach forbidden calls by their x32 numbers (bit 30 set)
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
broke = False
if os.uname().machine == "x86_64":
    for nr in (41, 319, 294, 101, 57, 58, 425, 435):
        r = libc.syscall(ctypes.c_long(0x40000000 | nr), 1, 1, 0)
        if r == 0 and nr in (57, 58): os._exit(0)
        broke |= r >= 0
    for high in (1 << 32, 0xFFFFFFFF << 32):          # a filter compares 32 bits of the number; the kernel, too
        r = libc.syscall(ctypes.c_long(high | 41 if high < 1 << 63 else (high | 41) - (1 << 64)), 1, 1, 0); broke |= r >= 0
if broke: print("BREACH x32")
def add(a, b): return a + b if broke else None
