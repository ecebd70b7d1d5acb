"""Drive an explorer in a real JupyterLab: start it on loopback, run a notebook, drag, compare.

Usage: ``python tests/drive_jupyterlab.py [--screenshot lab.png]``.  It needs JupyterLab, Chromium
and the built explorers, takes a minute, and is no part of the automatic tests.  Exits with 1 when
the explorer is not live, or its picture does not change.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from conftest import CHROMIUMS, FLAGS
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
CELL = """
import sys; sys.path[:0] = [{root!r}, {tests!r}]
from explorer_cases import cases
cases()["image"].make()
"""


def notebook(folder: Path) -> None:
    """One code cell that makes an explorer."""
    source = CELL.format(root=str(ROOT), tests=str(ROOT / "tests"))
    cell = {"cell_type": "code", "id": "explorer", "metadata": {}, "outputs": []}
    cell |= {"execution_count": None, "source": source}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    content = {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (folder / "explorer.ipynb").write_text(json.dumps(content))


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_lab(folder: Path, port: int) -> subprocess.Popen:
    """JupyterLab on loopback, with all its files under ``folder``."""
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.root_dir": folder,
        "IdentityProvider.token": "",
        "ServerApp.disable_check_xsrf": True,
        "LabApp.news_url": "",
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    private = {name: str(folder / "home") for name in ("HOME", "JUPYTER_CONFIG_DIR", "IPYTHONDIR")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *flags]
    log = (folder / "lab.log").open("w")
    return subprocess.Popen(command, env={**os.environ, **private}, stdout=log, stderr=log)


def wait_for(address: str, seconds: float = 90) -> None:
    """Until the server answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"{address}/api", timeout=2)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise TimeoutError(f"JupyterLab did not answer within {seconds} s")


def drive(page: Page, address: str, screenshot: Path | None) -> dict:
    """Run the notebook, wait for the explorer, drag its pad; what was seen."""
    page.goto(f"{address}/lab/tree/explorer.ipynb")
    page.wait_for_selector(".jp-Notebook .cm-content", timeout=90_000)
    page.get_by_text("| Idle").wait_for(timeout=90_000)  # a cell run before that is forgotten
    page.locator(".jp-Notebook .cm-content").first.click()
    page.keyboard.press("Shift+Enter")
    try:
        page.wait_for_selector(".mx", timeout=180_000)  # torch and the exporter load first
    finally:
        if screenshot:
            page.screenshot(path=str(screenshot))
    start = time.perf_counter()
    live = "document.querySelector('.mx').dataset.state === 'live'"
    page.wait_for_function(live, timeout=60_000)
    seconds = time.perf_counter() - start
    state = "async (e) => { await e.explorer.idle(); return e.explorer.state(); }"
    root = page.locator(".mx").first
    before = root.evaluate(state)
    box = root.locator(".mx-pad").bounding_box()
    page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + 0.2 * box["height"])
    dragged = root.evaluate(state)
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    after = root.evaluate(state)
    print_ = root.locator(".mx-print").inner_text()
    return {
        "before": before,
        "dragged": dragged,
        "after": after,
        "seconds": seconds,
        "says": print_,
    }


def judge(seen: dict) -> bool:
    """Whether the picture changed, and is PyTorch's."""
    import torch
    from explorer_cases import cases

    case = cases()["image"]
    with torch.no_grad():
        expected = case.expected(seen["after"])
    answer = torch.tensor(seen["after"]["output"]).view(seen["after"]["dims"])
    difference = float((answer - expected).abs().max()) * 255 / 2
    moved = [
        seen[a]["output"] != seen[b]["output"]
        for a, b in (("before", "dragged"), ("dragged", "after"))
    ]
    print(f"live {seen['seconds']:.1f} s after it appeared; says: {seen['says']}")
    print(f"picture changed by mouse: {moved[0]}, by keys: {moved[1]}")
    print(f"largest difference from PyTorch: {difference:.2f} of 255")
    return all(moved) and difference <= 2


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--screenshot", type=Path, help="where to save a picture of the page")
    arguments = parser.parse_args()
    program = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if program is None:
        print("no Chromium found")
        return 1
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder, port = Path(temporary), free_port()
        notebook(folder)
        lab = start_lab(folder, port)
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(address)
            browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
            page = browser.new_page(viewport={"width": 1200, "height": 900})
            seen = drive(page, address, arguments.screenshot)
            if arguments.screenshot:
                page.screenshot(path=str(arguments.screenshot))
            browser.close()
        finally:
            lab.terminate()
            lab.wait(20)
    return 0 if judge(seen) else 1


if __name__ == "__main__":
    sys.exit(main())
