# case: b61_stdin_buffer
# class: benign
# style: stdio
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import sys
data = sys.stdin.buffer.read().split()
out = [str(int(data[i]) + int(data[i + 1])) for i in range(0, len(data), 2)]
sys.stdout.buffer.write("\n".join(out).encode() + b"\n"); sys.stdout.buffer.flush()
