# case: r73_source_attribute_chain
# class: resource
# style: call
# it must NOT: overflow the compiler's stack
# detect: host alive
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# text: "x = a" + ".b" * 300000 + "\ndef add(a, b): return None\n"

