"""The rules of the house that no linter knows: which way imports go, what the core must not carry.

If one of these fails, the code is wrong, not the rule; the rules are those of
``docs/architecture.md``.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "modernpubmed"
SOURCES = sorted(PACKAGE.rglob("*.py"))

#: From the ground up; an import goes to a lower floor, or stays in its own room.
FLOORS = (
    (
        "records",
        "schemas",
        "articles",
        "suites",
        "hub",
        "hub_suites",
        "manifest",
        "errors",
        "lines",
        "protocols",
        "folding",
        "related",
        "terminal",
        "threads",
        "cluster",
        "wording",
    ),
    ("pubmed", "pairs", "training", "encoder"),
    ("evaluation", "search", "concepts", "classify"),
    ("server", "demo", "registry"),
    ("cli_distil", "cli_evaluation", "cli_pubmed", "cli_training"),
    ("cli",),
    # What a user imports and what Python starts; nothing of ours imports them.
    ("__init__", "__main__"),
)
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}
#: On the ground a file may use its neighbour (a suite carries a manifest); above, none may.
GROUND = 0

#: What the light core must not import at all, or only inside the function that needs it.
HEAVY = {
    "torch",
    "transformers",
    "datasets",
    "sentence_transformers",
    "pandas",
    "lancedb",
    "mteb",
    "ray",
    "pyhpo",
    "pydantic",
    "scipy",
    "sklearn",
}
UNSAFE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}


def module_name(path: Path, package: Path = PACKAGE) -> str:
    """``encoder.graph`` of ``encoder/graph.py``; ``encoder`` of ``encoder/__init__.py``."""
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return module.partition(".")[0]


def our_imports(text: str, modules: set[str]) -> set[str]:
    """The modules of ours that a file imports, at its top or anywhere inside it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            # "from package import module" imports the module, "… import name" the package.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [n if n.removeprefix("modernpubmed.") in modules else node.module or ""
                     for n in names]  # fmt: skip
        else:
            continue
        for name in names:
            if name == "modernpubmed":
                found.add("__init__")
            elif name.startswith("modernpubmed."):
                found.add(name.removeprefix("modernpubmed."))
    return found


def all_imports(text: str) -> set[str]:
    """The first names of everything that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def graph(sources: list[Path] = SOURCES, package: Path = PACKAGE) -> dict[str, set[str]]:
    modules = {module_name(path, package) for path in sources}
    return {
        module_name(path, package): our_imports(path.read_text("utf-8"), modules)
        for path in sources
    }


def wrong_imports(imports: dict[str, set[str]]) -> list[str]:
    """Every import that goes up, or sideways into another room."""
    wrong = []
    for module, targets in imports.items():
        for target in targets:
            here, there = room_of(module), room_of(target)
            if here == there:
                continue
            floor, other = FLOOR_OF[here], FLOOR_OF[there]
            if other > floor or (other == floor and floor != GROUND):
                wrong.append(f"{module} imports {target}")
    return sorted(wrong)


def test_every_file_has_a_floor():
    assert len(SOURCES) > 30
    assert {room_of(module_name(path)) for path in SOURCES} <= set(FLOOR_OF)


def test_imports_only_go_down():
    assert wrong_imports(graph()) == []


def test_no_files_import_each_other():
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' → '.join(error.args[1])}")


def test_training_and_encoder_know_nothing_of_each_other():
    for module, targets in graph().items():
        if room_of(module) == "training":
            assert not {room_of(target) for target in targets} & {"encoder", "search", "server"}
        if room_of(module) == "encoder":
            assert "training" not in {room_of(target) for target in targets}


@pytest.mark.parametrize(
    ("file", "text", "wrong"),
    [
        ("pairs/a.py", "from modernpubmed.pubmed import parse", "pairs.a imports pubmed"),
        ("records.py", "import modernpubmed.encoder.graph", "records imports encoder.graph"),
        ("search/a.py", "def f():\n    from modernpubmed import demo", "search.a imports demo"),
        ("encoder/a.py", "from modernpubmed import Encoder", "encoder.a imports __init__"),
        ("demo.py", "if 0:\n    from modernpubmed.cli import main", "demo imports cli"),
    ],
)
def test_an_import_that_goes_up_or_sideways_is_found(
    file: str, text: str, wrong: str, tmp_path: Path
):
    for name in ("pubmed/__init__.py", "encoder/graph.py", "demo.py", "cli.py", "__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    assert wrong_imports(graph(sorted(tmp_path.rglob("*.py")), tmp_path)) == [wrong]


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_a_file_is_short_and_safe(path: Path):
    text = path.read_text("utf-8")
    assert text.count("\n") <= 600
    assert not all_imports(text) & UNSAFE
    assert "trust_remote" + "_code" not in text
    assert not re.search(r"allow_pickle\s*=\s*True", text)


def test_help_needs_nothing_heavy():
    code = (
        "import json, resource, sys\n"
        "from modernpubmed.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit as end:\n"
        "    used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "    seconds = used.ru_utime + used.ru_stime\n"
        "    print(json.dumps([end.code, sorted(sys.modules), seconds]), file=sys.stderr)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("usage: modernpubmed")
    status, modules, seconds = json.loads(found.stderr)
    assert status == 0
    assert not set(modules) & (HEAVY | {"bm25s", "huggingface_hub"})
    # Processor time, which a busy machine does not stretch; it is 0.3 s, and torch alone takes 3.
    assert seconds < 2


def tracked() -> list[Path]:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        [git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_registry_or_this_machine():
    # Written in two pieces each, so that this file does not name them itself.
    hosts = [
        "pypi" + ".org",
        "python" + "hosted.org",
        "registry." + "npmjs",
        "npm" + "js.com",
        "crates" + ".io",
        "anaconda" + ".org",
        "conda" + ".io",
        "proxy.golang" + ".org",
        "rubygems" + ".org",
        "/simple" + "/",
    ]
    places = [
        "/wo" + "rk/",
        "/ro" + "ot/",
        "/ho" + "me/",
        "/Us" + "ers/",
        "/bash" + "_jobs",
        "." + "library",
    ]
    pattern = re.compile("|".join(re.escape(text) for text in hosts + places).encode())
    found = {}
    for path in tracked():
        if match := pattern.search(path.read_bytes()):
            found[str(path.relative_to(ROOT))] = match.group().decode()
    assert found == {}


def test_no_file_runs_code_of_a_model():
    flag = ("trust_remote" + "_code").encode()
    assert [path for path in tracked() if flag in path.read_bytes()] == []
