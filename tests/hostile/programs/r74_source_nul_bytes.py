# case: r74_source_nul_bytes
# class: resource
# style: call
# it must NOT: break the host with NUL in the source
# detect: verdict (never sandbox_error)
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# text: "def add(a, b): return None\n\0\0\0"

