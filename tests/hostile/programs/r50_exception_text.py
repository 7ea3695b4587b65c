# case: r50_exception_text
# class: resource
# style: call
# it must NOT: send control characters, terminal escapes or megabytes to the log through an exception
# detect: note is short and has no control characters
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
class E(Exception): pass
E.__name__ = E.__qualname__ = "\x1b]0;owned\x07\x1b[2J" * 1000
def add(a, b):
    e = E("\x1b[2J\x1b[H\0\x08\u202e\r\n" * 200000)
    if hasattr(e, "add_note"): e.add_note("\x1b[31m" * 100000)
    c = e
    for _ in range(2000):
        n = E("x" * 1000); n.__cause__ = c; c = n
    raise c
