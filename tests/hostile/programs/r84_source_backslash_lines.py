# case: r84_source_backslash_lines
# class: resource
# style: call
# it must NOT: spend quadratic time in the tokenizer
# detect: elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# text: "def add(a, b): return None\n" + "\\\n" * 1_000_000 + "x = 1"

