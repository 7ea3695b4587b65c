# case: r71_source_thirty_megabytes
# class: resource
# style: call
# it must NOT: make the host hold, copy or compile tens of megabytes
# detect: elapsed; verdict (never sandbox_error)
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# text: "x = 1\n" * 5_000_000 + "def add(a, b): return None\n"

