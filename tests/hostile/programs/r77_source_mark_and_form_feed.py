# case: r77_source_mark_and_form_feed
# class: resource
# style: call
# it must NOT: be read differently by different readers
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# text: "\ufeff\x0c\x0c# \x0cdef add(a, b): return a + b\n\x0cdef add(a, b): return None\n\x1a"

