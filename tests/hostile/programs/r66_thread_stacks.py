# case: r66_thread_stacks
# class: resource
# style: call
# it must NOT: reserve stacks beyond its memory
# detect: elapsed; verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import threading, time
threading.stack_size(1 << 28)
def add(a, b):
    for _ in range(64):
        try: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        except Exception: pass
    return None
