# case: b45_deep_recursion
# class: benign
# style: call
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import sys
sys.setrecursionlimit(20000)
def depth(n): return 0 if n == 0 else 1 + depth(n - 1)
def add(a, b): return a + b + depth(8000) - 8000
