# case: v65_exceptions_that_act
# class: verdict
# style: call
# it must NOT: end the process with status 0 from an exception's own methods
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os
class Quiet(BaseException):
    def __str__(s): os._exit(0)
    __repr__ = __str__
    __class__ = property(lambda s: os._exit(0))
    def with_traceback(s, t): os._exit(0)
def add(a, b): raise Quiet
