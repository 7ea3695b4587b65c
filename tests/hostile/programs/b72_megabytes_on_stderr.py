# case: b72_megabytes_on_stderr
# class: benign
# style: call
# it must not: be rejected because it writes a lot to standard error, or because others did before it
# detect: verdict
# expect: verdict PASS
import sys
def add(a, b):
    sys.stderr.write("e" * (1 << 20)); sys.stderr.flush()
    return a + b
