# case: b71_checker_unittest
# class: benign
# style: unittest
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import functools
@functools.cache
def add(a, b=0): return a + b
