# case: r57_hash_collisions
# class: resource
# style: call
# it must NOT: make the host's own dict quadratic with keys that collide (int hashes are not seeded)
# detect: elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os
def add(a, b):
    pairs = ",".join('[{"t":"int","v":"%x"},null]' % (i * (2**61 - 1)) for i in range(1, 20001))
    view = memoryview(b"".join(len(body).to_bytes(4, "big") + body for body in (('{"ok":{"t":"dict","v":[' + pairs + "]}}").encode(), b'{"ok":null}', b'{"ok":null}')))
    while view: view = view[os.write(3, view):]
    os._exit(0)
