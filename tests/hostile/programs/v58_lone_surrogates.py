# case: v58_lone_surrogates
# class: verdict
# style: call
# it must NOT: break the codec with text that has no UTF-8
# detect: verdict (never sandbox_error)
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
def add(a, b): return {"\ud800": "\udfff\0\x1b[2J", "\udc80" * 3: ["\ud83d", "\ude00"]}
