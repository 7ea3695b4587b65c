# case: v57_text_answers
# class: verdict
# style: call
# it must NOT: pass with the text of the right number
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
def add(a, b): return str(a + b)
