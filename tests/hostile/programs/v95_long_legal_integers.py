# case: v95_long_legal_integers
# class: verdict
# style: call
# it must NOT: break the note or the judge with a number that is allowed but longer than what Python prints
# detect: verdict (never sandbox_error)
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
def add(a, b): return [10**17000, {10**9000: -(10**6000)}][(a + b) % 2] if b != 5 else 10**5000
