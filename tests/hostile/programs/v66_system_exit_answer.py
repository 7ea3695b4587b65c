# case: v66_system_exit_answer
# class: verdict
# style: call
# it must NOT: count as passed because it left with SystemExit(0)
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys
def add(a, b): sys.exit(0)
