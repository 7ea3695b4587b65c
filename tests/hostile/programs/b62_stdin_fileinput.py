# case: b62_stdin_fileinput
# class: benign
# style: stdio
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import fileinput
for line in fileinput.input():
    if line.strip(): print(sum(int(x) for x in line.split()), flush=True)
