"""Imports inside the jail, without asking the file system what exists.

The filter refuses every call that answers with metadata of a path, and Python's own finder is made of them. So the
fork server writes down once where each module of the standard library lies and how old it is; a child then only opens
and reads.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType

HIDDEN = frozenset({"site-packages", "dist-packages"})
"""Folders inside the standard library's that hold other people's packages (data sets with their answers, for one)."""
_USELESS = frozenset({"__pycache__", "test", "tests", "idlelib", "ensurepip", "lib2to3", "turtledemo", "tkinter"})
_NOT_PRELOADED = ("_test", "_xx", "xx", "_ctypes_test", "_tkinter", "_curses", "readline", "_gdbm", "_dbm")
_RARE = frozenset({
    "_crypt", "_lsprof", "_posixshmem", "_ssl", "audioop", "nis", "ossaudiodev", "spwd", "syslog",
})  # fmt: skip
"""Extension modules that no program here needs. Each one that is there costs every fork some mappings."""

PRELOADED = (
    "abc", "bisect", "builtins", "cmath", "collections.abc", "contextlib", "copy", "dataclasses", "datetime", "enum",
    "functools", "heapq", "io", "itertools", "json", "math", "operator", "re", "string", "struct", "time",
    "typing",
)  # fmt: skip
"""What programs import most; already there when a child begins. The rest is read when it is asked for: `random` and
`threading` too, which run code of their own in every forked child."""


class _Loader(importlib.machinery.SourceFileLoader):
    """Reads a module whose age and size are known, so that its compiled form can be used unseen.

    It opens files by a way the child's user can walk: relative to the working folder, mostly, since a library may lie
    under /root.
    """

    def __init__(self, name: str, path: str, stats: dict[str, float], root: str, way: str) -> None:
        super().__init__(name, path)
        self._stats = stats
        self._root = root + os.sep
        self._way = way

    def get_data(self, path: str) -> bytes:
        return super().get_data(os.path.join(self._way, path.removeprefix(self._root)))

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        if module.__name__ == "random":
            module.seed(0)  # a program's verdict is the same every time

    def path_stats(self, path: str) -> dict[str, float]:  # type: ignore[override]
        del path
        return self._stats

    def set_data(self, path: str, data: bytes, *, _mode: int = 0o666) -> None:  # type: ignore[override]
        del path, data, _mode


class IndexFinder:
    """Finds the modules of an index and no others.

    extensions: name → file of extension modules that are mapped already; the C library knows them by that name and does
    not look for them again. way: how to reach the first root; empty for the working folder.
    """

    def __init__(self, roots: Sequence[str], extensions: Mapping[str, str], way: str) -> None:
        self._extensions = extensions
        self._root = roots[0]
        self._way = way
        self._index: dict[str, tuple[str, bool, dict[str, float]]] = {}
        for root in roots:
            self._walk(root, "")

    def _walk(self, folder: str, prefix: str) -> None:
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            return
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".py"):
                self._note(prefix + name[:-3], path, is_package=False)
            elif name.isidentifier() and name not in _USELESS and os.path.isdir(path):
                initial = os.path.join(path, "__init__.py")
                if os.path.exists(initial):
                    self._note(prefix + name, initial, is_package=True)
                    self._walk(path, f"{prefix}{name}.")

    def _note(self, name: str, path: str, *, is_package: bool) -> None:
        try:
            found = os.stat(path)
        except OSError:  # a link to nowhere (Debian's sitecustomize, seen from inside bubblewrap)
            return
        self._index.setdefault(name, (path, is_package, {"mtime": found.st_mtime, "size": found.st_size}))

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if fullname in self._extensions:
            file = self._extensions[fullname]
            loader = importlib.machinery.ExtensionFileLoader(fullname, file)
            return importlib.util.spec_from_file_location(fullname, file, loader=loader)
        entry = self._index.get(fullname)
        if entry is None:
            return None
        where, is_package, stats = entry
        loader = _Loader(fullname, where, stats, self._root, self._way)
        places = [os.path.dirname(where)] if is_package else None
        return importlib.util.spec_from_file_location(fullname, where, loader=loader, submodule_search_locations=places)


def preload(extensions: str) -> dict[str, str]:
    """Make what children need and cannot load themselves part of this process: modules that most programs import, and
    the file of every extension module, since mapping one asks for its metadata.

    extensions: the folder of the standard library's extension modules. Returns: name → file of those that are mapped.
    """
    for name in PRELOADED:
        importlib.import_module(name)
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    mapped = {}
    for file in sorted(os.listdir(extensions)) if os.path.isdir(extensions) else []:
        name = file.partition(".")[0]
        if not file.endswith(suffix) or name.startswith(_NOT_PRELOADED) or name in _RARE:
            continue
        path = os.path.join(extensions, file)
        try:
            ctypes.PyDLL(path)
        except OSError:  # a library it needs is not on this machine
            continue
        mapped[name] = path
    return mapped


def use_index(roots: Sequence[str], extensions: Mapping[str, str], way: str = "") -> None:
    """From now on, find modules in the index only. extensions: from `preload`. way: see IndexFinder."""
    finder = IndexFinder(roots, extensions, way)
    sys.meta_path[:] = [importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter, finder]
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    sys.path[:] = []
