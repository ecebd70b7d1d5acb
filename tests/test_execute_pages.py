"""Pages are executed side by side into the cache that MyST-NB reads."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONF = """
import sys
sys.path.insert(0, {extensions!r})
extensions = ["myst_nb", "execute_pages"]
nb_execution_mode = "cache"
nb_execution_cache_path = {cache!r}
"""
HEADER = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n\n"


def page(title: str, code: str) -> str:
    return f"{HEADER}# {title}\n\n```{{code-cell}} ipython3\n{code}\n```\n"


THREADS = "import os, time\ntime.sleep(3)\nprint('threads', os.environ['OMP_NUM_THREADS'])"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Two pages to execute, and one without cells."""
    source = tmp_path / "source"
    source.mkdir()
    conf = CONF.format(extensions=str(ROOT / "book/_ext"), cache=str(tmp_path / "cache"))
    (source / "conf.py").write_text(conf)
    (source / "index.md").write_text("# Index\n\n```{toctree}\none\ntwo\n```\n")
    (source / "one.md").write_text(page("One", THREADS))
    (source / "two.md").write_text(page("Two", THREADS))
    return source


def build(site: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-q", str(site), str(site.parent / "html")]
    plain = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return subprocess.run(
        command, capture_output=True, text=True, env=plain | environment, timeout=300
    )


def seconds(printed: str) -> dict[str, float]:
    return {name: float(s) for name, s in re.findall(r"^  (\S.*?) +(\d+\.\d)$", printed, re.M)}


def test_pages_run_side_by_side_once_and_share_the_cores(site: Path) -> None:
    first = build(site)
    assert first.returncode == 0, first.stderr
    took = seconds(first.stdout)
    assert {"one", "two"} < set(took)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if cores and cores > 1:
        assert took["all of them, side by side"] < took["one"] + took["two"] - 2
    share = max(1, (cores or 1) // 2)
    assert f"threads {share}" in (site.parent / "html/one.html").read_text("utf-8")

    (site / "two.md").write_text(page("Two", "1 / 0"))
    second = build(site)
    assert second.returncode != 0
    assert "A cell failed" in second.stderr
    assert "two" in second.stderr
    assert "ZeroDivisionError: division by zero" in second.stderr

    (site / "two.md").write_text(page("Two", THREADS))  # as at first, so the cache has it
    (site / "one.md").write_text(page("One", THREADS.replace("3", "1")))
    third = build(site, OMP_NUM_THREADS="7")
    assert third.returncode == 0, third.stderr
    assert "executing one" in third.stdout
    assert "executing two" not in third.stdout
    assert "threads 7" in (site.parent / "html/one.html").read_text("utf-8")  # the user's own
