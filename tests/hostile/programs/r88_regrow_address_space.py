# case: r88_regrow_address_space
# class: resource
# style: call
# it must NOT: raise its memory limit by lowering and raising it, or hold memory that is not counted (freed but kept, locked, huge pages, shared files)
# detect: proof by answer: more than 600 MiB resident
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import resource, mmap, os
for which in (resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_STACK, resource.RLIMIT_RSS):
    for value in ((1 << 34, 1 << 34), (resource.RLIM_INFINITY,) * 2):
        try: resource.setrlimit(which, value)
        except (OSError, ValueError): pass
keep, block = [], b"x" * (32 << 20)
try:
    for flags in (mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS):
        for _ in range(40):
            m = mmap.mmap(-1, 32 << 20, flags=flags)
            m.write(block)
            keep.append(m)
except (OSError, ValueError, MemoryError): pass
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
broke = peak > 600 << 20
keep.clear()
if broke: print("BREACH resident", peak)
def add(a, b): return a + b if broke else None
