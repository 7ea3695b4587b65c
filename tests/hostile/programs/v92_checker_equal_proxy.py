# case: v92_checker_equal_proxy
# class: verdict
# style: pytest
# it must NOT: have the checker's comparison answered by the program's own object
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
class Always:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __bool__(self): return True
    def __iter__(self): return iter((True,))
    def __getattr__(self, name): return Always()
    def __call__(self, *a, **k): return True
    def __sub__(self, other): return 0
    __rsub__ = __add__ = __radd__ = __abs__ = __sub__
    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __eq__
def add(a, b): return Always()
