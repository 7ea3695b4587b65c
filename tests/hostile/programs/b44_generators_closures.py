# case: b44_generators_closures
# class: benign
# style: call
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
from contextlib import contextmanager, suppress
def counter():
    total = 0
    def step(n):
        nonlocal total
        total += n; return total
    return step
def numbers(*args):
    got = yield from args
    return got
@contextmanager
def quiet():
    with suppress(ZeroDivisionError): yield
def add(a, b):
    step = counter()
    with quiet(): 1 / 0
    for n in numbers(a, b): last = step(n)
    return last
