# case: b49_lambda
# class: benign
# style: call
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
add = lambda a, b: a + b
