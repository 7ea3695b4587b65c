# case: v61_trace_the_harness
# class: verdict
# style: call
# it must NOT: change what the harness's own functions return or hold with settrace, setprofile and sys.monitoring
# detect: verdict (never sandbox_error)
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys, threading
def tracer(frame, event, arg):
    for name in ("passed", "ok", "correct", "outcome", "verdict", "status"):
        if name in frame.f_locals:
            try: frame.f_locals[name] = True
            except Exception: pass
    frame.f_trace_opcodes = True
    return tracer
sys.settrace(tracer); threading.settrace(tracer); sys.setprofile(lambda *a: None)
f = sys._getframe()
while f: f.f_trace = tracer; f = f.f_back
mon = getattr(sys, "monitoring", None)
if mon:
    mon.use_tool_id(3, "x"); mon.set_events(3, mon.events.PY_RETURN | mon.events.CALL); mon.register_callback(3, mon.events.PY_RETURN, lambda *a: mon.DISABLE)
def add(a, b): return None
