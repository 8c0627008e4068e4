"""The documentation as a site, as `make docs` builds it, in a real browser that reaches nothing else."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser, Page, Request, expect

from export_pipeline_tests.browser.chromium import running
from export_pipeline_tests.documents.blocks import ROOT, blocks_of


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as strictly as by `make docs`."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    shutil.copytree(ROOT / "docs", folder / "docs")
    done = built(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests of the site, which ends with them."""
    with running() as browser:
        yield browser


def built(folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("index", "code"), [("[x](nowhere.md)", 1), ("[x](#nowhere)", 1), ("[x](other.md#nowhere)", 1), ("well", 0)]
)
def test_a_broken_link_fails_the_build(index: str, code: int, tmp_path: Path) -> None:
    """With our settings a link to a missing page or heading fails the strict build."""
    (tmp_path / "docs").mkdir()
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[0]
    (tmp_path / "docs" / "index.md").write_text(f"# Title\n\n{index}\n", encoding="utf-8")
    (tmp_path / "docs" / "other.md").write_text("# Other\n", encoding="utf-8")
    (tmp_path / "mkdocs.yml").write_text(f"{settings}\nnav: [index.md, other.md]\n", encoding="utf-8")
    done = built(tmp_path)
    assert done.returncode == code, done.stdout + done.stderr


def test_every_page_is_in_the_menu_once() -> None:
    """The menu of the site lists each page of docs/ and nothing else."""
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert sorted(pages_of(menu)) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


def pages_of(menu: Any) -> Iterator[str]:
    """The files that a menu names, at any depth."""
    if isinstance(menu, str):
        yield menu
    else:
        for entry in menu.values() if isinstance(menu, dict) else menu:
            yield from pages_of(entry)


def test_the_site_is_read_without_any_server(site: Path, browser: Browser) -> None:
    """From the folder alone every page opens, with its menu and all its pictures, and asks no machine for anything."""
    asked: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            asked.append(request.url)

    pages = sorted(site.glob("*.html"))
    assert {"index.html", "concepts.html", "operations.html", "deployment.html"} <= {page.name for page in pages}
    page = browser.new_page()
    page.on("request", note)
    for path in pages:
        page.goto(path.as_uri())
        assert page.locator("nav").count() > 0, path.name
        broken = broken_pictures(page)
        assert broken == [], path.name
    page.close()
    assert asked == []


def test_every_block_is_shown_as_one(site: Path) -> None:
    """Each fenced block of a page is a block on the site, and each table a table: none is lost by a wrong indent."""
    for page in sorted((ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        shown = (site / f"{page.stem}.html").read_text(encoding="utf-8")
        blocks = list(blocks_of(page.name, text))
        assert len(re.findall(r'<div class="[^"]*highlight[^"]*">', shown)) == len(blocks), page.name
        assert shown.count("<table>") == len(re.findall(r"^ *\|(?: ?:?-+:? ?\|)+$", text, re.MULTILINE)), page.name


def test_the_search_finds_a_page(site: Path, browser: Browser) -> None:
    """Served by Python's own server, the site is searched in the browser: a word of a page leads to that page."""
    handler = partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
            page.get_by_role("button", name="Search").first.click()
            page.get_by_role("combobox", name="Search").fill("copy_ledger")
            found = page.get_by_role("listbox").locator("a").first
            expect(found).to_have_attribute("href", re.compile(r"operations\.html"))
            page.close()
        finally:
            server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and prints nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def broken_pictures(page: Page) -> list[str]:
    """Addresses of the pictures that the browser could not show."""
    found = page.evaluate("[...document.images].filter(i => !i.complete || i.naturalWidth === 0).map(i => i.src)")
    return [str(one) for one in found]


def test_the_diagram_holds_its_text(site: Path, browser: Browser) -> None:
    """In the diagram of concepts.md no line of text is wider than the box around it, in the font of this machine."""
    page = browser.new_page()
    page.goto((site / "images" / "concepts.svg").as_uri())
    boxes = page.evaluate(
        """() => { const all = s => [...document.querySelectorAll(s)].map(e => e.getBBox());
        return {texts: [...document.querySelectorAll('text')].map(e => [e.textContent, e.getBBox()])
            .map(([t, b]) => [t, b.x, b.y, b.width, b.height]),
            boxes: all('rect.place, rect.op').map(b => [b.x, b.y, b.width, b.height])}; }"""
    )
    page.close()
    assert len(boxes["boxes"]) >= 10
    for text, x, y, width, height in boxes["texts"]:
        middle_x, middle_y = x + width / 2, y + height / 2
        around = [b for b in boxes["boxes"] if b[0] < middle_x < b[0] + b[2] and b[1] < middle_y < b[1] + b[3]]
        assert all(b[0] <= x and x + width <= b[0] + b[2] for b in around), text
