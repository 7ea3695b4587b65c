# case: r83_source_empty
# class: resource
# style: call
# it must NOT: pass, or be no verdict, by being nothing
# detect: verdict (never sandbox_error)
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# text: ""

