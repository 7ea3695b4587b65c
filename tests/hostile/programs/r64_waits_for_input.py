# case: r64_waits_for_input
# class: resource
# style: call
# it must NOT: hang because somebody should answer it
# detect: elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
def add(a, b):
    try: breakpoint()
    except BaseException: pass
    try: return int(input("a + b = "))
    except EOFError: return None
