# case: b84_scratch_files
# class: benign
# style: call
# it must not: be rejected when it has a scratch folder and uses it
# detect: verdict
# expect: verdict PASS
# scratch: 4194304
# tiers: A
import os, tempfile, sqlite3, json, csv, shutil, pathlib
def add(a, b):
    with open("a.txt", "w", encoding="utf-8") as f: print("é", a, file=f)
    os.mkdir("d"); os.rename("a.txt", "d/b.txt"); assert open("d/b.txt", encoding="utf-8").read() == f"é {a}\n" and os.listdir("d") == ["b.txt"]
    with tempfile.NamedTemporaryFile("w+") as f: f.write("x"); f.flush(); f.seek(0); assert f.read() == "x"
    with tempfile.TemporaryDirectory() as t: (pathlib.Path(t) / "x").write_text("y")
    os.remove("d/b.txt"); os.rmdir("d")
    return a + b
