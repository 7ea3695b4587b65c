# case: v56_nan_and_infinity
# class: verdict
# style: call
# it must NOT: pass, or break the codec, with values that JSON has no word for
# detect: verdict (never sandbox_error)
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
ANSWERS = [float("nan"), float("inf"), -float("inf"), complex("nan"), -0.0, 1e308 * 10]
def add(a, b): return ANSWERS[(a + b) % 6]
