# case: r56_reserve_everything
# class: resource
# style: call
# it must NOT: reserve, lock or pre-fault memory beyond its limit
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import ctypes, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p; libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
broke = []
for name, flags in (("noreserve", 0x4022), ("plain", 0x22), ("populate", 0x8022), ("hugetlb", 0x40022), ("shared", 0x21), ("growsdown", 0x122), ("locked", 0x2022)):
    if libc.mmap(None, 1 << 40 if name == "noreserve" else 1 << 30, 3, flags, -1, 0) not in (None, 2**64 - 1, -1): broke.append(name)
if libc.mlockall(3) == 0: broke.append("mlockall")
small = ctypes.create_string_buffer(16 << 20)
if libc.mlock(small, 16 << 20) == 0: broke.append("mlock")
if broke: print("BREACH memory", broke)
def add(a, b): return a + b if broke else None
