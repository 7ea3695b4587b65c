# case: r75_source_surrogates
# class: resource
# style: call
# it must NOT: break the host with text that has no UTF-8
# detect: verdict (never sandbox_error); no exception in the host
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# text: "def add(a, b): return None\nx = '\ud800\udfff'\n"

