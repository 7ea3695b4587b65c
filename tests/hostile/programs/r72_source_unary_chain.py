# case: r72_source_unary_chain
# class: resource
# style: call
# it must NOT: overflow the compiler's stack
# detect: host alive
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# text: "x = " + "~" * 500000 + "1\ndef add(a, b): return None\n"

