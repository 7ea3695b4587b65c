# case: r69_many_sets_of_collisions
# class: resource
# style: call
# it must NOT: spend the host's time on many small containers whose members collide (sent as frames, which costs the program nothing)
# detect: elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os
P = 2**61 - 1
def frame(body): return len(body).to_bytes(4, "big") + body
def collide(k): return '{"t":"set","v":[' + ",".join('{"t":"int","v":"%x"}' % (i * P) for i in range(1, k)) + "]}"
def add(a, b):
    text = "[" + ",".join([collide(4096)] * 5) + "]"
    view = memoryview(frame(('{"ok":' + text + "}").encode()) + frame(b'{"ok":null}') * 2)
    while view: view = view[os.write(3, view):]
    os._exit(0)
