# case: b66_os_read_write
# class: benign
# style: stdio
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import os
data = b""
while chunk := os.read(0, 4096): data += chunk
for line in data.split(b"\n"):
    if line.strip(): os.write(1, b"%d\n" % sum(map(int, line.split())))
os._exit(0)
