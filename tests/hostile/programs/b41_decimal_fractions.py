# case: b41_decimal_fractions
# class: benign
# style: call
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
from decimal import Decimal, getcontext, localcontext
from fractions import Fraction
import math, statistics, cmath
getcontext().prec = 60
def add(a, b):
    with localcontext() as c:
        c.prec = 50
        d = int(Decimal(a) + Decimal(b))
    f = Fraction(a, 3) + Fraction(b, 3)
    assert d == int(f * 3) and math.gcd(12, 18) == 6 and statistics.mean([1, 2, 3]) == 2 and abs(cmath.sqrt(-1)) == 1
    return d
