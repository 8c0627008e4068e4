"""A real browser: the system's Chromium, driven by Playwright. Nothing is downloaded."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, BrowserContext, Route, expect, sync_playwright

from export_pipeline_tests.servers.programs import missing

NAMES = ("chromium", "chromium-browser", "google-chrome")
HOW_TO_GET = "sudo apt-get install chromium (Debian), chromium-browser (Ubuntu); Google Chrome will do as well"
# A container has no user namespaces for the sandbox; the rest keeps the browser from calling home.
SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTH, HEIGHT = 1280, 800
PATIENCE_MS = 30_000


def find() -> str:
    """The path of the browser; without one, the test is skipped, and in CI it fails."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or missing("chromium", HOW_TO_GET)


@contextmanager
def running() -> Iterator[Browser]:
    """The browser, with its own profile, which is deleted afterwards."""
    path = find()
    # Of its own accord it waits for five seconds, which are over soon while other tests keep the machine busy.
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=SWITCHES)
        try:
            yield browser
        finally:
            browser.close()


def new_person(browser: Browser, url: str) -> BrowserContext:
    """Somebody who has never seen the UI at *url*, and whose browser reaches nothing else."""
    context = browser.new_context(
        base_url=url,
        viewport={"width": WIDTH, "height": HEIGHT},
        timezone_id="UTC",
        locale="en-US",
        reduced_motion="reduce",
    )
    context.set_default_timeout(PATIENCE_MS)

    def only_the_ui(route: Route) -> None:
        if route.request.url.startswith((url, "data:", "blob:")):
            route.continue_()
        else:
            route.abort()

    context.route("**/*", only_the_ui)
    return context
