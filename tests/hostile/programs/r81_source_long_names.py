# case: r81_source_long_names
# class: resource
# style: call
# it must NOT: spend time and memory on normalising a name (one letter becomes eighteen)
# detect: elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# text: "def add(a, b): return None\n" + "\ufdfa" * 200000 + " = 1\n"

