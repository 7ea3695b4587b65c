# case: r52_big_repetition
# class: resource
# style: call
# it must NOT: take memory beyond its limit by one expression
# detect: memory; verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
x = "a" * 10**10
y = [0] * 10**9
def add(a, b): return None
