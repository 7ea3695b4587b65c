# case: r78_source_open_f_string
# class: resource
# style: call
# it must NOT: break the tokenizer
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# text: "def add(a, b): return None\nx = f'''{" + "f'{" * 200 + "\n" * 1000

