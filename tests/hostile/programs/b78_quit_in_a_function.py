# case: b78_quit_in_a_function
# class: benign
# style: stdio
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
def solve():
    import sys
    data = list(map(int, sys.stdin.read().split()))
    for i in range(0, len(data), 2): print(data[i] + data[i + 1])
    quit()
solve()
