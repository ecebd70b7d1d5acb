"""The built pages in headless Chromium, with every other host cut off."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.browser
PHONE = {"width": 390, "height": 844}


def toc_entries(node: Any) -> Iterator[str]:
    """Every page named in the table of contents, in order."""
    if isinstance(node, dict):
        yield from (node[key] for key in ("root", "file") if key in node)
        for key in ("parts", "chapters", "sections"):
            yield from toc_entries(node.get(key, []))
    elif isinstance(node, list):
        for child in node:
            yield from toc_entries(child)


PAGES = list(toc_entries(yaml.safe_load((ROOT / "book/_toc.yml").read_text("utf-8"))))
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
BROKEN_IMAGES = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
NAMELESS_IMAGES = (
    "[...document.querySelectorAll('article img')].filter(i => !i.alt.trim())"
    ".map(i => i.src.slice(-80))"
)
LIGHT_IMAGES = (  # pictures that a theme has put on a white card
    "[...document.querySelectorAll('article img')]"
    ".filter(i => getComputedStyle(i).backgroundColor != 'rgba(0, 0, 0, 0)').map(i => i.src)"
)
TYPESET = "document.querySelectorAll('article .math mjx-container').length"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"


def brightness(colour: str) -> float:
    """Mean of the channels of a CSS colour ``rgb(r, g, b)``, 0 to 255."""
    channels = colour.split("(")[1].rstrip(")").split(",")[:3]
    return sum(map(float, channels)) / 3


def background(visit: Any) -> str:
    """CSS colour behind the page, once the theme has set one."""
    visit.page.wait_for_function(f"{BACKGROUND} !== 'rgba(0, 0, 0, 0)'")
    return visit.page.evaluate(BACKGROUND)


@pytest.mark.parametrize("page", PAGES)
def test_page_over_http(open_page: Callable, site_url: str, page: str) -> None:
    visit = open_page(f"{site_url}/{page}.html")
    assert visit.page.locator("article h1").count() == 1
    assert visit.page.evaluate(BROKEN_IMAGES) == []
    assert visit.page.evaluate(NAMELESS_IMAGES) == []
    assert brightness(background(visit)) > 200
    formulas = visit.page.locator("article .math").count()
    visit.page.wait_for_function(f"{TYPESET} >= {formulas}")
    assert visit.page.locator("mjx-merror, [data-mjx-error]").count() == 0
    assert visit.problems == []


@pytest.mark.parametrize("page", PAGES)
def test_page_from_file_in_the_dark(open_page: Callable, book_html: Path, page: str) -> None:
    visit = open_page((book_html / f"{page}.html").as_uri(), scheme="dark")
    assert visit.page.locator("article h1").count() == 1
    assert visit.page.evaluate(BROKEN_IMAGES) == []
    assert brightness(background(visit)) < 60
    assert visit.page.evaluate(LIGHT_IMAGES) == []
    assert visit.problems == []


@pytest.mark.parametrize("page", PAGES)
def test_no_sideways_scrolling_on_a_phone(open_page: Callable, site_url: str, page: str) -> None:
    visit = open_page(f"{site_url}/{page}.html", touch=True, **PHONE)
    assert visit.page.evaluate(OVERFLOW) <= 0
    assert visit.problems == []


def test_root_leads_to_the_cover(open_page: Callable, site_url: str) -> None:
    visit = open_page(f"{site_url}/index.html")
    visit.page.wait_for_url(f"**/{PAGES[0]}.html")
    assert visit.problems == []


def test_search_finds_a_word(open_page: Callable, site_url: str) -> None:
    visit = open_page(f"{site_url}/search.html?q=latent")
    visit.page.wait_for_selector("#search-results li a")
    found = visit.page.locator("#search-results li a").evaluate_all("all => all.map(a => a.href)")
    assert any("notation" in href for href in found)
    assert visit.problems == []


def test_search_for_nonsense_finds_nothing(open_page: Callable, site_url: str) -> None:
    visit = open_page(f"{site_url}/search.html?q=zzqxjkvw")
    visit.page.wait_for_function("document.querySelector('#search-results p')?.innerText")
    assert visit.page.locator("#search-results li a").count() == 0


def test_theme_button_switches_to_dark(open_page: Callable, site_url: str) -> None:
    visit = open_page(f"{site_url}/{PAGES[0]}.html")
    button = visit.page.locator("button.theme-switch-button:visible").first
    seen = set()
    for _ in range(3):  # it goes round: system, light, dark
        button.click()
        seen.add(brightness(visit.page.evaluate(BACKGROUND)) > 128)
    assert seen == {True, False}


def test_cut_network_is_noticed(open_page: Callable, site_url: str) -> None:
    """The guard itself: a page that asks another host must be caught."""
    visit = open_page(f"{site_url}/{PAGES[0]}.html")
    visit.page.evaluate("fetch('https://example.org/x').catch(() => 0)")
    visit.page.evaluate("fetch('missing-file.json').catch(() => 0)")
    assert any("example.org" in line for line in visit.foreign)
    assert any("missing-file" in line for line in visit.failed)
