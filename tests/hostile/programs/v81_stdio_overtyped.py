# case: v81_stdio_overtyped
# class: verdict
# style: stdio
# it must NOT: pass by what a terminal would show (backspaces, carriage returns, escape sequences)
# detect: verdict; note without control characters
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys
for line in sys.stdin:
    if line.strip(): sys.stdout.write("9\b%d\x1b[K\n" % sum(map(int, line.split())))
