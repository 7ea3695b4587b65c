# case: b52_pickle_copy_own_classes
# class: benign
# style: call
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import copy, pickle, json, base64, hashlib, zlib, struct, io, csv, datetime, random, string, uuid, textwrap
class P:
    def __init__(self, x): self.x = x
def add(a, b):
    p = pickle.loads(pickle.dumps(P(a))); q = copy.deepcopy(P(b)); random.seed(1)
    assert json.loads(json.dumps({"é": [1, None]})) == {"é": [1, None]} and zlib.decompress(zlib.compress(b"x")) == b"x" and hashlib.sha256(b"").hexdigest().startswith("e3b0")
    assert datetime.date(2024, 2, 29).weekday() == 3 and list(csv.reader(io.StringIO("a,b"))) == [["a", "b"]] and 0 <= random.random() < 1
    return p.x + q.x
