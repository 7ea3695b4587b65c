# case: b43_regular_expressions
# class: benign
# style: call
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import re, string, textwrap, unicodedata, difflib
def add(a, b):
    m = re.fullmatch(r"(?P<a>-?\d+)\s*,\s*(?P<b>-?\d+)", f"{a}, {b}")
    assert re.sub(r"(\w+)@(\w+)", r"\2 at \1", "me@home") == "home at me" and textwrap.dedent("  x") == "x" and unicodedata.name("é")
    return sum(int(m[k]) for k in ("a", "b"))
