# case: r80_source_huge_error
# class: resource
# style: call
# it must NOT: send a source line of megabytes to the log through a SyntaxError
# detect: note is short
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# text: "def add(a, b): return None\n" + "x" * 5_000_000 + " " + "y" * 5_000_000 + "\n"

