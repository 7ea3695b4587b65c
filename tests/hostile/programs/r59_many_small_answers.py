# case: r59_many_small_answers
# class: resource
# style: call
# it must NOT: make a small answer large in the host's memory
# detect: elapsed; memory of the host
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
def add(a, b): return [[] for _ in range(150000)]
