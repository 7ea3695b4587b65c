# case: r82_source_nested_blocks
# class: resource
# style: call
# it must NOT: overflow the compiler's symbol table
# detect: host alive
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# text: "".join(" " * i + "if 1:\n" for i in range(99)) + " " * 99 + "pass\n" + "def add(a, b): return None\n" + "(lambda: " * 5000 + "0" + ")" * 5000 + "\n"

