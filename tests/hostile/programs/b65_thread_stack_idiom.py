# case: b65_thread_stack_idiom
# class: benign
# style: stdio
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import sys, threading
def main():
    read = sys.stdin.readline
    while line := read():
        if line.strip(): sys.stdout.write(str(sum(map(int, line.split()))) + "\n")
sys.setrecursionlimit(10**6); threading.stack_size(1 << 27)
t = threading.Thread(target=main); t.start(); t.join()
