# case: b55_state_between_calls
# class: benign
# style: call
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import time
memo, calls = {}, 0
def add(a, b):
    global calls
    calls += 1
    if (a, b) not in memo: time.sleep(0.02); memo[a, b] = a + b
    return memo[a, b]
