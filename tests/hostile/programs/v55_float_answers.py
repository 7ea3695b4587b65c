# case: v55_float_answers
# class: verdict
# style: call
# it must NOT: pass with floats that are only nearly equal (10**20 + 5 is not a float)
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
def add(a, b): return float(a) + float(b)
