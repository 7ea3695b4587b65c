# case: r58_set_collisions
# class: resource
# style: call
# it must NOT: make the host's own set quadratic with elements that collide
# detect: elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
def add(a, b): return {i * (2**61 - 1) for i in range(1, 4001)}
