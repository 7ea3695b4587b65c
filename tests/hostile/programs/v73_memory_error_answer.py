# case: v73_memory_error_answer
# class: verdict
# style: call
# it must NOT: turn its own MemoryError or RecursionError into a fault of the machine
# detect: outcome is not sandbox_error
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
COUNT = iter([MemoryError("no space"), RecursionError(), OSError(28, "No space left on device"), OSError(24, "Too many open files"), BrokenPipeError()] * 3)
def add(a, b): raise next(COUNT)
