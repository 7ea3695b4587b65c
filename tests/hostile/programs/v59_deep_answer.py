# case: v59_deep_answer
# class: verdict
# style: call
# it must NOT: overflow the host's stack with a deeply nested answer
# detect: verdict (never sandbox_error); host alive
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
def add(a, b):
    x = 0
    for _ in range(100000): x = [x]
    return x
