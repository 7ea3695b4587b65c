# case: b50_callable_object
# class: benign
# style: call
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import functools, operator
class Adder:
    def __call__(self, a, b): return a + b
    @functools.cached_property
    def bound(self): return functools.partial(operator.add)
add = Adder()
