# case: b64_exit_builtin
# class: benign
# style: stdio
# it must not: be rejected (exit and quit come from the site module, which a lean interpreter may lack)
# detect: verdict
# expect: verdict PASS
import sys
for line in sys.stdin.readlines():
    if line.strip(): print(sum(map(int, line.split())))
exit()
