# case: r70_source_open_brackets
# class: resource
# style: call
# it must NOT: overflow whoever parses it
# detect: host alive; elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# text: "x = " + "[" * 200000 + "]" * 200000 + "\ndef add(a, b): return None\n"

