# case: b47_memory_half_used
# class: benign
# style: call
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import array
grid = array.array("q", bytes(8 * 20_000_000)); rows = [[0] * 1000 for _ in range(2000)]
def add(a, b):
    grid[-1] = a if -2**63 < a < 2**63 else 0
    return a + b
