# case: b56_catches_its_own_errors
# class: benign
# style: call
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import traceback, io, contextlib
def add(a, b):
    try: raise ExceptionGroup("g", [ValueError("x"), KeyError(1)])
    except* ValueError: pass
    except* KeyError: assert "KeyError" in traceback.format_exc()
    with contextlib.redirect_stdout(io.StringIO()) as out: print("hidden")
    assert out.getvalue() == "hidden\n"
    try: open("/no/such/file")
    except OSError: pass
    try: raise SystemExit(3)
    except SystemExit: return a + b
