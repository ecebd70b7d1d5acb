"""House rules that a machine can check: packages, lock files, paths, chapters' form, the lint."""

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import jupytext
import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from minilib import chapters, parameters

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
REQUIREMENTS = [
    *PROJECT["dependencies"],
    *(line for group in PROJECT["optional-dependencies"].values() for line in group),
]
LARGEST = 1_000_000  # bytes of a committed file that is not a shipped network
BINARY = {".png", ".onnx", ".safetensors", ".pt", ".woff2"}
FORBIDDEN = {  # written in two halves, so that this file does not find itself
    "a path of one machine": "/ro" + r"ot/|/ho" + r"me/[a-z]+/|/Us" + r"ers/[A-Za-z]+/",
    "a package host": "registry.npm" + r"js|files.python" + r"hosted|pypi\.o" + r"rg/simple",
    "a package address": r"https?://[^\s\"']+\.(?:w" + "hl|tg" + "z|d" + r"eb)\b",
    "an index option": r"(?<!no-emit-)index" + "-url",
}


@cache
def committed() -> list[Path]:
    """Files that are in the repository, or would be after ``git add .``."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def module_at(path: Path) -> ModuleType:
    """Import a file that is on no path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def book_build() -> ModuleType:
    return module_at(ROOT / "book/_ext/book_build.py")


# --- packages ------------------------------------------------------------------------------------


def test_environment_names_the_packages_of_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert sorted(pip) == sorted(REQUIREMENTS)
    python = next(d for d in environment["dependencies"] if str(d).startswith("python"))
    assert PROJECT["requires-python"] in python.removeprefix("python").split(",")


def test_lock_holds_every_package_within_its_range() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    pinned: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock, flags=re.M):
        pinned.setdefault(canonicalize_name(name), set()).add(version)
    for requirement in map(Requirement, REQUIREMENTS):
        versions = pinned.get(canonicalize_name(requirement.name), set())
        assert any(requirement.specifier.contains(v) for v in versions), requirement


def test_every_pin_has_a_hash() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    blocks = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.M)[1:]
    assert len(blocks) > 100
    assert [b.splitlines()[0] for b in blocks if "--hash=sha256:" not in b] == []


def test_javascript_lock_has_hashes_and_no_hosts() -> None:
    assets = ROOT / "book" / "assets"
    wanted = json.loads((assets / "package.json").read_text("utf-8"))
    lock = json.loads((assets / "package-lock.json").read_text("utf-8"))
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert [name for name, entry in packages.items() if "integrity" not in entry] == []
    assert [name for name, entry in packages.items() if "resolved" in entry] == []
    for name, version in {**wanted["dependencies"], **wanted["devDependencies"]}.items():
        assert packages[f"node_modules/{name}"]["version"] == version


# --- what must not be committed ------------------------------------------------------------------


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_names(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group(0)}"
        for path in committed()
        if path.suffix not in BINARY
        for match in re.finditer(FORBIDDEN[what], path.read_text("utf-8", errors="replace"))
    ]
    assert found == []


def test_no_large_or_generated_files() -> None:
    shipped = {".onnx", ".safetensors"}
    large = [p for p in committed() if p.stat().st_size > LARGEST and p.suffix not in shipped]
    assert large == []
    assert [path for path in committed() if path.suffix == ".ipynb"] == []


# --- chapters ------------------------------------------------------------------------------------


def pages_of(node: object) -> list[str]:
    """Every page of the table of contents."""
    if isinstance(node, list):
        return [page for child in node for page in pages_of(child)]
    if not isinstance(node, dict):
        return []
    here = [node[key] for key in ("root", "file") if key in node]
    return here + [page for value in node.values() for page in pages_of(value)]


TOC = pages_of(yaml.safe_load((ROOT / "book/_toc.yml").read_text("utf-8")))


def test_contents_list_every_chapter_and_page_once() -> None:
    assert len(TOC) == len(set(TOC))
    assert [page for page in TOC if not (ROOT / f"{page}.md").is_file()] == []
    files = [*ROOT.glob("chapters/*.md"), *ROOT.glob("book/*.md")]
    assert {p.relative_to(ROOT).with_suffix("").as_posix() for p in files} == set(TOC)


@pytest.mark.parametrize("name", chapters.names())
def test_chapter_has_claim_and_kernel(name: str) -> None:
    metadata = chapters.read(name).metadata
    claim = metadata.get("claim", "")
    assert claim
    assert "\n" not in claim
    assert metadata["kernelspec"] == {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }


def test_pages_are_as_jupyterlab_saves_them() -> None:
    tool = module_at(ROOT / "book/tools/format_chapters.py")
    assert len(tool.pages()) >= len(chapters.names())
    differ = [
        p.name for p in tool.pages() if tool.canonical(p.read_text("utf-8")) != p.read_text("utf-8")
    ]
    assert differ == [], "run `make format`"


def test_saving_in_jupyterlab_keeps_what_a_chapter_needs() -> None:
    tool = module_at(ROOT / "book/tools/format_chapters.py")
    header = "claim: It holds.\nkernelspec: {display_name: P, language: python, name: python3}"
    cell = "```{code-cell} ipython3\n:tags: [parameters]\n\nseed: int=0  # of it all\n```"
    page = f"---\n{header}\n---\n\n# Title\n\n{cell}\n"
    saved = tool.canonical(page)
    assert "claim: It holds." in saved
    assert ":tags: [parameters]" in saved
    assert "seed: int = 0  # of it all" in saved
    assert tool.canonical(saved) == saved


@pytest.mark.parametrize("name", chapters.names())
def test_parameters_cell(name: str) -> None:
    cells = [c for c in chapters.read(name).cells if c.cell_type == "code"]
    cells = [c for c in cells if "parameters" in c.metadata.get("tags", [])]
    if not hasattr(chapters.load(name), "PRESETS"):
        assert cells == []
        return
    (cell,) = cells
    lines = dict(re.findall(r"^(\w+): \w+ = .*?(  # \S.*)?$", cell.source, flags=re.M))
    assert set(lines) == set(parameters.PARAMETERS)
    assert [line for line, comment in lines.items() if not comment] == []


@pytest.mark.parametrize("page", TOC)
def test_figures_have_caption_and_alt_text(page: str) -> None:
    for cell in jupytext.read(ROOT / f"{page}.md", fmt="md:myst").cells:
        options = cell.metadata.get("mystnb", {})
        if "figure" in options:
            assert options["figure"].get("caption", "").strip(), cell.source[:80]
            assert options["figure"].get("name", "").startswith("fig-"), cell.source[:80]
            assert options.get("image", {}).get("alt", "").strip(), cell.source[:80]


def test_cited_data_sets_are_in_the_bibliography() -> None:
    manifest = json.loads((ROOT / "data_scripts/manifest.json").read_text("utf-8"))
    keys = set(re.findall(r"^@\w+\{(\S+),$", (ROOT / "book/references.bib").read_text(), re.M))
    cited = {key for entry in manifest.values() for key in entry["cite"]}
    assert len(cited) > 10
    assert cited - keys == set()


def test_cover_of_the_readme_is_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_cover = module_at(ROOT / "book/draw_cover.py")
    monkeypatch.setattr(draw_cover, "PICTURE", tmp_path / "cover.png")
    draw_cover.write()
    committed_one, now = (
        np.asarray(Image.open(path).convert("RGBA"), dtype=float)
        for path in (ROOT / "book/_static/cover.png", tmp_path / "cover.png")
    )
    assert committed_one.shape == now.shape
    assert np.abs(committed_one - now).mean() < 1.0  # of 255


# --- lint ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff_over_the_code(command: list[str]) -> None:
    folders = ["minilib", "tests", "data_scripts", "book"]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, *folders], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_lint_over_the_cells_of_chapters() -> None:
    lint = module_at(ROOT / "book/tools/lint_chapters.py")
    assert [line for page in lint.pages() for line in lint.findings(page)] == []


def test_lint_of_chapters_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lint = module_at(ROOT / "book/tools/lint_chapters.py")
    monkeypatch.setattr(lint, "ROOT", tmp_path)
    page = tmp_path / "bad.md"
    header = "---\nkernelspec: {display_name: P, language: python, name: python3}\n---\n\n"
    body = "import os\nundefined_name\n" + "x = 1\n" * 40
    page.write_text(f"{header}```{{code-cell}} ipython3\n{body}```\n")
    text = "\n".join(lint.findings(page))
    assert "F821" in text
    assert "42 lines" in text
    page.write_text(
        f"{header}```{{code-cell}} ipython3\n:tags: [record]\n\nrun.metric('a', 1)\n```\n"
    )
    assert "has the tag 'record', but calls run.metric(" in "\n".join(lint.findings(page))


# --- the build -----------------------------------------------------------------------------------


LOADS = 'spade = chapters.load("spade")'


@pytest.fixture
def small_tree(tmp_path: Path) -> Callable[[str, str], Path]:
    """A tree with what the cache key looks at, and a function that changes one of its files."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return tmp_path

    write("requirements.lock", "torch==1")
    write("minilib/losses.py", "a = 1")
    write("minilib/explore/js/widget.js", "let a = 1")
    write("data_scripts/mnist.py", "a = 1")
    write("book/results/cinn.json", "{}")
    write("book/draw_cover.py", "a = 1")
    write("chapters/spade.md", "one")
    write("book/assets/package-lock.json", "{}")
    write("chapters/side.md", f"```{{code-cell}}\n{LOADS}\n```")
    return write


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("minilib/losses.py", True),
        ("minilib/new.py", True),
        ("minilib/explore/js/widget.js", True),
        ("requirements.lock", True),
        ("data_scripts/mnist.py", True),
        ("book/results/cinn.json", True),
        ("book/draw_cover.py", True),
        ("book/assets/package-lock.json", True),
        ("chapters/spade.md", True),  # another chapter loads its definitions
        ("chapters/side.md", False),  # jupyter-cache itself looks at a page's own cells
        ("minilib/__pycache__/losses.pyc", False),
        ("minilib/explore/static/widget.js", False),
        ("README.md", False),
    ],
)
def test_cache_key_notices_what_matters(
    book_build: ModuleType, small_tree: Callable[[str, str], Path], name: str, counts: bool
) -> None:
    root = small_tree("chapters/other.md", "text")
    before = book_build.cache_key(root)
    assert book_build.cache_key(root) == before
    changed = f"```{{code-cell}}\n{LOADS}\n```\nMore." if name.endswith("side.md") else "other"
    small_tree(name, changed)
    assert (book_build.cache_key(root) != before) == counts


def test_a_failing_cell_is_reported_without_the_frames_of_the_tools() -> None:
    tool = module_at(ROOT / "book/tools/build_book.py")
    printed = [
        "chapters/cinn.md: WARNING: Executing notebook failed\n",
        "Traceback (most recent call last):\n",
        '  File "client.py", line 1, in execute\n',
        "CellExecutionError: while executing the following cell:\n",
        "1 / 0\n",
        "ZeroDivisionError: division by zero\n",
        "The full traceback has been saved in a file\n",
        "Traceback (most recent call last):\n",
        "RuntimeError: There was an error in building your book\n",
    ]
    assert list(tool.what_matters(printed)) == [printed[0], *printed[3:6]]


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_too_old_a_python_is_refused_in_one_line(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    pretend = "import sys; sys.version_info = (3, 9, 2); exec(sys.argv[1])"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{pretend}" "$2"\n')
    old.chmod(0o755)
    done = make("check-python", f"PYTHON={old}")
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stderr
    assert "is 3.9" in done.stderr
    assert "Traceback" not in done.stderr


def test_python_of_this_test_is_accepted() -> None:
    assert make("check-python", f"PYTHON={sys.executable}").returncode == 0


def test_make_run_without_a_chapter_names_them() -> None:
    done = make("run")
    assert done.returncode != 0
    assert "Which chapter?" in done.stderr
    assert all(name in done.stderr for name in chapters.names())


# --- workflows -----------------------------------------------------------------------------------

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def steps(workflow: Path) -> list[dict]:
    """All steps of all jobs."""
    jobs = yaml.safe_load(workflow.read_text("utf-8"))["jobs"].values()
    return [step | {"job": job} for job in jobs for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_what_there_is(workflow: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.M))
    for step in steps(workflow):
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:  # of the forge's own, at a version
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])
            continue
        program, *arguments = step["run"].split(maxsplit=1)
        if program == "make":
            matrix = step["job"].get("strategy", {}).get("matrix", {}).get("include", [])
            named = {row["packages"] for row in matrix}
            wanted = named if "matrix" in arguments[0] else set(arguments)
            assert wanted
            assert wanted <= targets
        else:
            assert (ROOT / program).exists() or program.startswith(".venv/bin/")


def test_the_weekly_workflow_tries_locked_and_newest_packages_links_and_data() -> None:
    path = ROOT / ".github/workflows/weekly.yml"
    weekly = yaml.safe_load(path.read_text("utf-8"))
    matrix = weekly["jobs"]["build"]["strategy"]["matrix"]["include"]
    assert {row["packages"] for row in matrix} == {"setup", "newest"}
    commands = {step.get("run") for step in steps(path)}
    assert {"make book", "make test", "make links", "make sources"} <= commands
    assert weekly[True]["schedule"]  # YAML reads the key `on` as true
