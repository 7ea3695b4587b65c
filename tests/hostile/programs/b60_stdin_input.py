# case: b60_stdin_input
# class: benign
# style: stdio
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
while True:
    try: line = input()
    except EOFError: break
    if line: print(sum(map(int, line.split())))
