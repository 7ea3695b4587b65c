# case: r79_source_huge_number
# class: resource
# style: call
# it must NOT: spend quadratic time on a literal
# detect: elapsed
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# text: "x = " + "9" * 5_000_000 + "\ndef add(a, b): return None\n"

