# case: b69_unicode_on_stderr
# class: benign
# style: stdio
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import sys
print("отладка 🎉", file=sys.stderr)
for line in sys.stdin:
    if line.strip(): print(sum(map(int, line.split())))
assert sys.stdout.encoding.lower().replace("-", "") == "utf8"
