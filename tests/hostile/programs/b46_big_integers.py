# case: b46_big_integers
# class: benign
# style: call
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import sys, math
if hasattr(sys, "set_int_max_str_digits"): sys.set_int_max_str_digits(0)
def add(a, b):
    big = math.factorial(1800)
    assert len(str(big)) == 5080 and int(str(big)) == big and pow(3, 10**6, 10**9 + 7) > 0
    return a + b + big - big
