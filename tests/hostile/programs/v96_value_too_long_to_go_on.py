# case: v96_value_too_long_to_go_on
# class: verdict
# style: pytest
# it must NOT: stop the checker, and so have no verdict, with a value that just fits on its way out and no longer on its way back in
# detect: outcome is not sandbox_error
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
def add(a, b): return "x" * (1024**2 - 40)
