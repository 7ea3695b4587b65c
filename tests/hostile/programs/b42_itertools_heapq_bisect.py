# case: b42_itertools_heapq_bisect
# class: benign
# style: call
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import itertools, heapq, bisect, collections, functools, operator
@functools.lru_cache(maxsize=None)
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
def add(a, b):
    h = [b, a]; heapq.heapify(h)
    assert fib(200) == 280571172992510140037611932413038677189525 and bisect.bisect([1, 2, 3], 2) == 2
    assert collections.Counter("aab").most_common(1) == [("a", 2)] and list(itertools.permutations([1, 2])) == [(1, 2), (2, 1)]
    return functools.reduce(operator.add, (heapq.heappop(h) for _ in range(2)))
