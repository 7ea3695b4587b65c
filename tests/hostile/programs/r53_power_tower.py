# case: r53_power_tower
# class: resource
# style: call
# it must NOT: hang in one operation of the interpreter that no signal handler interrupts
# detect: elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# slow: waits for the wall limit
def add(a, b): return pow(7, 7 ** 9) % 10
