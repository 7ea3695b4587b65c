# case: r57_hash_collisions
# class: resource
# style: call
# it must NOT: make the host's own dict quadratic with keys that collide (int hashes are not seeded)
# detect: elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
def add(a, b): return {i * (2**61 - 1): 0 for i in range(1, 40001)}
