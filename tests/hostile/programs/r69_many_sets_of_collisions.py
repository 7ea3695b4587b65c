# case: r69_many_sets_of_collisions
# class: resource
# style: call
# it must NOT: spend the host's time on many small containers whose members collide
# detect: elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
def add(a, b): return [{i * (2**61 - 1) for i in range(1, 4001)} for _ in range(7)]
