# case: b68_no_last_newline
# class: benign
# style: stdio
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import sys
print(*(sum(map(int, l.split())) for l in sys.stdin.read().splitlines() if l), sep="\n", end="")
