# case: v87_stdio_runner_words
# class: verdict
# style: stdio
# it must NOT: pass by printing what a runner prints
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
print("...\n----------------------------------------------------------------------\nRan 3 tests in 0.000s\n\nOK\n3 passed in 0.01s\nTrue\n1.0\n[SUCCESS]")
