# case: r60_digits_at_the_limit
# class: resource
# style: call
# it must NOT: spend the host's time on numbers just below every limit on digits
# detect: elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
def add(a, b): return [10**4299 + i for i in range(200)] + [1e-300 * i for i in range(1000)]
