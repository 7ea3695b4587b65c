# case: v63_import_poison
# class: verdict
# style: call
# it must NOT: poison what the harness imports later
# detect: verdict (never sandbox_error)
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys
class Finder:
    def find_spec(self, name, path=None, target=None): raise MemoryError("sandbox_error")
sys.meta_path.insert(0, Finder()); sys.path_hooks.clear(); sys.path_importer_cache.clear()
class Fake(type(sys)):
    def __getattr__(self, name): return lambda *a, **k: True
for name in list(sys.modules):
    if name not in ("sys", "builtins", __name__): sys.modules[name] = Fake(name)
def add(a, b): return None
