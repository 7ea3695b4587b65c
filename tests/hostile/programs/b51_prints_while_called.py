# case: b51_prints_while_called
# class: benign
# style: call
# it must not: be rejected because it prints, in whatever script, to either stream
# detect: verdict
# expect: verdict PASS
import sys, logging, warnings, pprint
print("début … 开始 🎉"); print("x" * 5000, file=sys.stderr); logging.warning("careful"); warnings.warn("old", DeprecationWarning)
def add(a, b):
    print("debug", a, b, flush=True); pprint.pprint({"a": a}); sys.stdout.write("no newline"); return a + b
