# case: v60_raw_json_bombs
# class: verdict
# style: call
# it must NOT: break the host's parser with raw text on the result channel
# detect: verdict (never sandbox_error); host alive
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os
BOMBS = [b"[" * 100000, b'{"a":' * 100000, b"1e999999", b"NaN", b"-Infinity", b"9" * 400000, b'{"ok":1,"ok":2,"ok":3}', b'"\\ud800"', b"\xff\xfe\x00", b"\0" * 1000, b"1e-" + b"9" * 5000, b'{"v":["i","' + b"9" * 300000 + b'"]}', b"0x" + b"f" * 300000]
def add(a, b):
    for bomb in BOMBS:
        for fd in range(3, 16):
            for frame in (bomb + b"\n", len(bomb).to_bytes(4, "little") + bomb, len(bomb).to_bytes(4, "big") + bomb, len(bomb).to_bytes(8, "little") + bomb):
                try: os.set_blocking(fd, False); os.write(fd, frame)
                except OSError: break
    return None
