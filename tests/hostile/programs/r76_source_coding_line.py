# case: r76_source_coding_line
# class: resource
# style: call
# it must NOT: be read in another encoding than the one it is shown in
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# text: "# -*- coding: utf-16-le -*-\ndef add(a, b): return None\n"

