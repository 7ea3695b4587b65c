# case: r91_memory_without_a_mapping
# class: resource
# style: call
# it must NOT: hold memory that no mapping shows and no limit counts (shared pages kept by a second mapping of length 0, by a pipe, by pages given away)
# detect: proof by answer: more than 600 MiB
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import ctypes, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
held, size = 0, 32 << 20
for flags in (0x21, 0x01 | 0x20 | 0x4000, 0x03 | 0x20):
    for _ in range(24):
        p = libc.mmap(None, size, 3, flags, -1, 0)
        if p in (None, 2**64 - 1): break
        ctypes.memset(p, 1, size); held += size
        libc.mremap(p, 0, 4096, 1, None); libc.munmap(p + 4096, size - 4096)
for path in ("/dev/zero", "/dev/null", os.__file__):
    try: fd = os.open(path, os.O_RDWR)
    except OSError:
        try: fd = os.open(path, os.O_RDONLY)
        except OSError: continue
    for prot in (3, 1):
        if libc.mmap(None, size, prot, 0x01, fd, 0) not in (None, 2**64 - 1) and prot == 3: held += 1 << 30
broke = held > 600 << 20
if broke: print("BREACH memory", held)
def add(a, b): return a + b if broke else None
