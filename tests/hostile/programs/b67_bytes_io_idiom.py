# case: b67_bytes_io_idiom
# class: benign
# style: stdio
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import os, sys
from io import BytesIO, IOBase, TextIOWrapper, StringIO
sys.stdin = TextIOWrapper(BytesIO(os.read(0, os.fstat(0).st_size or 1 << 16)))
out = StringIO()
for line in sys.stdin:
    if line.strip(): print(sum(map(int, line.split())), file=out)
sys.__stdout__.write(out.getvalue())
