"""Fixtures shared by the tests: the built book, served on loopback, in a browser with no network.

``browser``, ``site_url``, ``book_html`` and ``open_page`` are for tests marked ``browser``.
They skip with a plain reason when there is no Chromium or no built book, and fail with it
where the environment says ``MINILIB_REQUIRE_BROWSER=1``, as continuous integration does.

``make test`` runs the files side by side (pytest-xdist), each with its share of the cores.
"""

import functools
import http.server
import os
import shutil
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:  # before torch is imported; kernels and other processes inherit it
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LOCAL_SCHEMES = ("file", "data", "blob", "about")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)


@dataclass
class Visit:
    """A page that was opened, and everything that went wrong on it so far."""

    page: Any  # playwright.sync_api.Page
    foreign: list[str] = field(default_factory=list)  # requests that wanted to leave the machine
    failed: list[str] = field(default_factory=list)  # requests that failed, or answered >= 400
    errors: list[str] = field(default_factory=list)  # console errors and uncaught exceptions

    @property
    def problems(self) -> list[str]:
        """All of it, one line each; empty for a page as it should be."""
        named = {"foreign": self.foreign, "failed": self.failed, "console": self.errors}
        return [f"{name}: {line}" for name, lines in named.items() for line in lines]

    def watch(self, context: Any) -> None:
        """Record what happens, and stop every request that is not for this machine."""
        context.route("**/*", self._route)
        context.route_web_socket("**/*", lambda socket: self.foreign.append(socket.url))
        context.on("requestfailed", self._request_failed)
        context.on("response", self._response)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._console)

    def _route(self, route: Any) -> None:
        parts = urlsplit(route.request.url)
        if parts.scheme in LOCAL_SCHEMES or parts.hostname == "127.0.0.1":
            route.continue_()
        else:
            self.foreign.append(route.request.url)
            route.abort()

    def _request_failed(self, request: Any) -> None:
        if urlsplit(request.url).scheme not in ("data", "blob") and request.url not in self.foreign:
            self.failed.append(f"{request.url[:200]} ({request.failure})")

    def _response(self, response: Any) -> None:
        if response.status >= 400:
            self.failed.append(f"{response.status} {response.url[:200]}")

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(message.text[:500])


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


class _QuietServer(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that left before a file was through."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than cores: many tests wait, for a browser, a server or a child."""
    return min(4, (os.cpu_count() or 1) + 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests in one process, so that they share fixtures; whole chapters need not."""
    for item in items:
        if not item.get_closest_marker("chapter"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Turn skips of browser tests into failures where a browser is required."""
    report = yield
    required = os.environ.get("MINILIB_REQUIRE_BROWSER") == "1"
    if required and report.skipped and item.get_closest_marker("browser"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"MINILIB_REQUIRE_BROWSER=1, but: {reason}"
    return report


@pytest.fixture(scope="session")
def book_html() -> Path:
    """Folder of the rendered book."""
    if not (HTML / "index.html").is_file():
        pytest.skip("no built book in _build/html: run `make book` first")
    return HTML


@pytest.fixture(scope="session")
def site_url(book_html: Path) -> Iterator[str]:
    """Address of the rendered book on loopback, without a slash at its end."""
    handler = functools.partial(_QuietHandler, directory=str(book_html))
    with _QuietServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")  # not "session": asyncio is busy in this thread while it is open
def browser() -> Iterator[Any]:
    """A headless Chromium (``playwright.sync_api.Browser``)."""
    sync_api = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if program is None:
        pytest.skip("no Chromium found: install Debian's `chromium` package, or Google Chrome")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Visit]]:
    """``open_page(url, scheme="light", width=1280, height=900, touch=False) -> Visit``.

    Loads the address, waits until the network is idle, and keeps recording until the test ends.
    """
    contexts = []

    def open_(
        url: str,
        *,
        scheme: str = "light",
        width: int = 1280,
        height: int = 900,
        touch: bool = False,
    ) -> Visit:
        context = browser.new_context(
            color_scheme=scheme,
            viewport={"width": width, "height": height},
            has_touch=touch,
            service_workers="block",
        )
        contexts.append(context)
        visit = Visit(context.new_page())
        visit.watch(context)
        visit.page.goto(url, wait_until="networkidle")
        return visit

    yield open_
    for context in contexts:
        context.close()
