# case: v83_stdio_right_then_hang
# class: verdict
# style: stdio
# it must NOT: pass although the program never ended
# detect: elapsed; verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# slow: waits for the wall limit
import sys
for line in sys.stdin:
    if line.strip(): print(sum(map(int, line.split())), flush=True)
sys.stdout.close()
while True: pass
