# case: r85_source_comprehension_bomb
# class: resource
# style: call
# it must NOT: overflow the compiler
# detect: host alive
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# text: "x = " + "[x for x in " * 3000 + "[]" + "]" * 3000 + "\ndef add(a, b): return None\n"

