"""Break the objectives, one small edit at a time, and see whether their tests notice.

Run as a program: `python tests/objectives/mutation.py [--module policy] [--jobs 2]` prints one JSON object with the
number of mutants of each module and the names of those that survived, told at once on standard error too. Each
mutant is tested in a forked process that finds torch and pytest already loaded, and that imports the one mutated
module from memory: no file is ever changed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gc
import importlib.abc
import importlib.machinery
import importlib.metadata
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src" / "charter" / "objectives"
OWN_TESTS = {
    "advantages": ["advantages"],
    "aggregation": ["aggregation"],
    "formulas": ["settings"],
    "kl": ["kl", "mismatch"],
    "length": ["length"],
    "masking": ["kl", "policy", "aggregation", "value"],
    "mismatch": ["mismatch"],
    "moments": ["value", "advantages"],
    "policy": ["policy"],
    "preference": ["preference"],
    "settings": ["settings", "policy", "advantages"],
    "value": ["value"],
}
"""Which test files know each module; a mutant that survives all of them is equivalent or a gap."""
PYTEST = ("-x", "-q", "--no-header", "--tb=no", "--assert=plain", "-p", "no:cacheprovider")
"""Whether a test fails is all that is asked, so nothing is spent on saying why."""
LIMIT_S = 120
"""A mutant that runs longer than this has been noticed."""

SWAPPED_OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
SWAPPED_NAMES = {
    "minimum": "maximum",
    "maximum": "minimum",
    "amax": "amin",
    "amin": "amax",
    "any": "all",
    "all": "any",
    "sum": "mean",
    "mean": "sum",
    "zeros_like": "ones_like",
    "ones_like": "zeros_like",
    "min": "max",
    "max": "min",
}
DROPPED_METHODS = {
    *("abs", "clamp", "detach", "double", "exp", "expand", "expand_as", "expm1", "float", "log", "sigmoid", "sign"),
    *("sqrt", "square", "squeeze", "to"),
}
DROPPED_CALLS = {"zero_outside", "at_least_single", "logsigmoid", "reversed", "float", "int"}


@dataclass(frozen=True)
class Mutant:
    """One edit. module: file stem. where: enclosing function. before, after: the expression, unparsed.

    line: the source line it stands in. code: the whole module, edited.
    """

    module: str
    where: str
    before: str
    after: str
    line: str
    code: str

    @property
    def name(self) -> str:
        return f"{self.module}.{self.where}: {self.before} -> {self.after} in {self.line}"


class _Editor(ast.NodeTransformer):
    """Makes the edit with the given number; counts all edits on the way."""

    def __init__(self, target: int) -> None:
        self.target, self.seen = target, -1
        self.edit: tuple[str, str, str, int] | None = None
        self.functions: list[str] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.functions.append(node.name)
        node.args.defaults = [self.visit(x) for x in node.args.defaults]
        node.args.kw_defaults = [x and self.visit(x) for x in node.args.kw_defaults]
        if self._chosen():
            before = [ast.unparse(x) for x in node.decorator_list]
            node.decorator_list = []
            self.edit = (node.name, f"decorators {before}", "none", node.lineno) if before else None
        node.body = [self.visit(x) for x in node.body]
        self.functions.pop()
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return node  # types say what is there and do nothing

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return self._replaced(node, ast.Pass())

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if isinstance(node.value, ast.Constant):
            return node
        return self._edited(node, ast.Pass()) if self._chosen() else self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool):
            return self._replaced(node, ast.Constant(not node.value))
        if isinstance(node.value, int):
            return self._replaced(node, ast.Constant(node.value + 1))
        if isinstance(node.value, float):
            return self._replaced(node, ast.Constant(node.value * 1.5 or 1.0))
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        return self._with_operator(node, "op")

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        return self._with_operator(node, "op")

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        for i, operator in enumerate(node.ops):
            if self._chosen():
                changed = copy.deepcopy(node)
                changed.ops[i] = SWAPPED_OPERATORS[type(operator)]()  # type: ignore[call-overload]
                return self._edited(node, changed)
        return self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if isinstance(node.operand, ast.Constant):
            return self.generic_visit(node)  # −1 as a dimension is +1 here: every tensor has two
        return self._edited(node, node.operand) if self._chosen() else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return node
        return self._with_negated_test(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        return self._with_negated_test(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if isinstance(function, ast.Attribute) and name in DROPPED_METHODS:
            # torch.exp(x) and x.exp() alike: what remains is x
            module = isinstance(function.value, ast.Name) and function.value.id == "torch"
            if self._chosen():
                return self._edited(node, node.args[0] if module else function.value)
        if isinstance(function, ast.Name) and name in DROPPED_CALLS and self._chosen():
            return self._edited(node, node.args[0])
        if name in SWAPPED_NAMES and self._chosen():
            changed = copy.deepcopy(node)
            if isinstance(changed.func, ast.Attribute):
                changed.func.attr = SWAPPED_NAMES[name]
            elif isinstance(changed.func, ast.Name):
                changed.func.id = SWAPPED_NAMES[name]
            return self._edited(node, changed)
        for i, keyword in enumerate(node.keywords):
            # a flag is turned instead, and one machine has one device
            if not isinstance(keyword.value, ast.Constant) and keyword.arg not in {None, "device"} and self._chosen():
                changed = copy.deepcopy(node)
                del changed.keywords[i]
                return self._edited(node, changed)
        return self.generic_visit(node)

    def _with_negated_test(self, node: ast.If | ast.IfExp) -> ast.AST:
        # a comparison is negated by swapping its own operator, a negation by leaving it out
        if not isinstance(node.test, ast.Compare | ast.UnaryOp) and self._chosen():
            negated = ast.UnaryOp(ast.Not(), node.test)
            self._edited(node.test, negated)
            node.test = negated
            return node
        return self.generic_visit(node)

    def _with_operator(self, node: ast.BinOp | ast.BoolOp, field: str) -> ast.AST:
        swapped = SWAPPED_OPERATORS.get(type(getattr(node, field)))
        if swapped is not None and self._chosen():
            changed = copy.deepcopy(node)
            setattr(changed, field, swapped())
            return self._edited(node, changed)
        return self.generic_visit(node)

    def _chosen(self) -> bool:
        self.seen += 1
        return self.seen == self.target

    def _replaced(self, node: ast.AST, by: ast.AST) -> ast.AST:
        return self._edited(node, by) if self._chosen() else node

    def _edited(self, node: ast.AST, by: ast.AST) -> ast.AST:
        where = ".".join(self.functions) or "module"
        self.edit = (where, ast.unparse(node), ast.unparse(by), getattr(node, "lineno", 0))
        return by


def mutants(module: str) -> Iterator[Mutant]:
    """Every edit of a module, in the order of its source."""
    source = (SOURCE / f"{module}.py").read_text(encoding="utf-8")
    target = 0
    while True:
        editor = _Editor(target)
        tree = ast.fix_missing_locations(editor.visit(ast.parse(source)))
        if editor.seen < target:
            return
        if editor.edit is not None:
            where, before, after, number = editor.edit
            line = source.splitlines()[number - 1].strip()
            yield Mutant(module, where, before, after, line, ast.unparse(tree))
        target += 1


class _FromMemory(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports these modules, by file stem, from these texts."""

    def __init__(self, code: Mapping[str, str]) -> None:
        self.code = {f"charter.objectives.{module}": text for module, text in code.items()}

    def find_spec(self, fullname, path=None, target=None):
        return importlib.machinery.ModuleSpec(fullname, self) if fullname in self.code else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.code[module.__name__], f"<{module.__name__}, edited>", "exec"), module.__dict__)


def survives(mutant: Mutant | None) -> bool:
    """Whether the tests that know the module pass on the mutant.

    None: whether all tests pass on all modules, loaded as a mutant is but without an edit.
    """
    child = os.fork()
    if child == 0:
        os._exit(_run_tests(mutant))
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            lives = os.waitstatus_to_exitcode(status) == 0
            if lives and mutant is not None:
                print("survived:", mutant.name, file=sys.stderr, flush=True)
            return lives
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _run_tests(mutant: Mutant | None) -> int:
    """In the child: pytest's exit code."""
    import hypothesis
    import pytest
    from hypothesis import HealthCheck, Phase

    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    # no failure is made smaller or explained, and a slow machine is none
    hypothesis.settings.register_profile(
        "mutation",
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
        deadline=None,
        database=None,
        derandomize=True,
    )
    hypothesis.settings.load_profile("mutation")
    edited = {mutant.module: mutant.code} if mutant else {module: _unedited(module) for module in OWN_TESTS}
    sys.meta_path.insert(0, _FromMemory(edited))
    names = OWN_TESTS[mutant.module] if mutant else sorted({name for own in OWN_TESTS.values() for name in own})
    return int(pytest.main([*PYTEST, *(str(HERE / f"test_{name}.py") for name in names)]))


def _unedited(module: str) -> str:
    return ast.unparse(ast.parse((SOURCE / f"{module}.py").read_text(encoding="utf-8")))


def _load_everything_else() -> None:
    """Load once here, for all children, whatever takes long to import and is not under test."""
    import hypothesis.strategies  # noqa: F401
    import torch

    torch.set_num_threads(1)
    torch.testing.assert_close(torch.ones(1), torch.ones(1))  # torch loads half of itself at the first comparison
    for plugin in importlib.metadata.entry_points(group="pytest11"):
        plugin.load()
    gc.freeze()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--module", action="append", choices=sorted(OWN_TESTS), help="only these modules")
    arguments.add_argument("--jobs", type=int, default=min(os.cpu_count() or 2, 8), help="mutants at a time")
    chosen = arguments.parse_args()

    _load_everything_else()
    if any(name.startswith("charter.objectives.") for name in sys.modules):
        raise SystemExit("a module under test is already imported: its mutants would never run")
    started = time.monotonic()
    if not survives(None):
        raise SystemExit("the tests fail without any mutation: run them first")
    every = [mutant for module in chosen.module or OWN_TESTS for mutant in mutants(module)]
    with ThreadPoolExecutor(chosen.jobs) as pool:
        alive = list(pool.map(survives, every))
    survivors = [mutant.name for mutant, lives in zip(every, alive, strict=True) if lives]
    counts = Counter(mutant.module for mutant in every)
    print(json.dumps({"mutants": counts, "survivors": survivors, "seconds": round(time.monotonic() - started)}))


if __name__ == "__main__":
    main()
