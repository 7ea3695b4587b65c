# case: b73_broad_standard_library
# class: benign
# style: call
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import bz2, calendar, cmath, codecs, contextvars, datetime, email.message, getopt, gzip, hmac, html, importlib, ipaddress, locale, lzma, operator, optparse, os, pathlib, platform, sched, secrets, shlex, sqlite3, tarfile, tempfile, time, timeit, tracemalloc, urllib.parse, xml.etree.ElementTree as ET, zipfile, zlib, io, argparse, configparser, colorsys, graphlib, reprlib, linecache, traceback
def add(a, b):
    assert gzip.decompress(gzip.compress(b"x")) == b"x" and bz2.decompress(bz2.compress(b"x")) == b"x" and lzma.decompress(lzma.compress(b"x")) == b"x"
    assert datetime.datetime.strptime("2024-02-29", "%Y-%m-%d").strftime("%A") == "Thursday" and calendar.isleap(2024)
    assert "é".encode("latin-1") == b"\xe9" and "ü".encode("cp1252") and "x".encode("utf-16") and codecs.encode("abc", "rot13") == "nop" and "bücher".encode("idna") == b"xn--bcher-kva"
    assert ET.fromstring("<a><b>1</b></a>").find("b").text == "1" and urllib.parse.quote("a b") == "a%20b" and html.escape("<") == "&lt;"
    db = sqlite3.connect(":memory:"); assert db.execute("select 1 + 1").fetchone() == (2,)
    p = argparse.ArgumentParser(); p.add_argument("n", type=int); assert p.parse_args(["3"]).n == 3
    z = io.BytesIO()
    with zipfile.ZipFile(z, "w") as f: f.writestr("a", "b")
    assert zipfile.ZipFile(z).read("a") == b"b" and shlex.split("a 'b c'") == ["a", "b c"] and ipaddress.ip_address("10.0.0.1").is_private
    assert list(graphlib.TopologicalSorter({1: {2}}).static_order()) == [2, 1] and secrets.randbelow(2) in (0, 1) and timeit.timeit("1", number=1) >= 0
    assert os.cpu_count() and platform.system() and time.perf_counter() > 0 and locale.localeconv() and datetime.datetime.now().year > 2000
    try: raise ValueError("x")
    except ValueError: assert "ValueError: x" in traceback.format_exc()
    return a + b
