# case: r57_hash_collisions
# class: resource
# style: call
# it must NOT: make the host's own dict quadratic with keys that collide (int hashes are not seeded)
# detect: elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os
def add(a, b):
    pairs = ",".join('[{"t":"int","v":"%x"},0]' % (i * (2**61 - 1)) for i in range(1, 12001))
    body = ('{"ok":{"t":"dict","v":[' + pairs.replace(",0]", ",null]") + "]}}").encode()
    os.write(3, len(body).to_bytes(4, "big") + body); return {i * (2**61 - 1): 0 for i in range(1, 3000)}
