# case: r69_many_sets_of_collisions
# class: resource
# style: call
# it must NOT: spend the host's time on many small containers whose members collide (sent as frames, which costs the program nothing)
# detect: elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os
P, n = 2**61 - 1, 0
def frame(body): return len(body).to_bytes(4, "big") + body
def collide(k): return '{"t":"set","v":[' + ",".join('{"t":"int","v":"%x"}' % (i * P) for i in range(1, k)) + "]}"
def add(a, b):
    global n
    n += 1
    text = "[" + ",".join([collide(4096)] * 5) + "]" if n == 1 else collide(2500)
    os.write(3, frame(('{"ok":' + text + "}").encode()) if n < 3 else frame(b'{"ok":null}'))
    if n == 3: os._exit(0)
    return None
