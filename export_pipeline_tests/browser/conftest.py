"""Fixtures of the browser tests: one `dagster dev` and one browser for all, a user with an empty profile for each.

They end with their module: while Playwright is open its event loop counts as running in this thread, and whatever else
wants to run one there, as Dagster does, is refused.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from export_pipeline_tests.browser import chromium
from export_pipeline_tests.browser.pictures import Pictures
from export_pipeline_tests.browser.stage import Stage, stage


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser."""
    with chromium.running() as browser:
        yield browser


@pytest.fixture(scope="module")
def on_stage(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """`dagster dev`; requested after the browser, so that nothing starts if the browser is missing."""
    with stage(tmp_path_factory.mktemp("ui")) as built:
        yield built


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    """Where screenshots go."""
    return Pictures(tmp_path_factory.mktemp("screenshots"))


@pytest.fixture
def page(browser: Browser, on_stage: Stage, pictures: Pictures, request: pytest.FixtureRequest) -> Iterator[Page]:
    """An empty page; where the test fails, what it showed last is kept."""
    context = chromium.new_person(browser, on_stage.dev.url)
    page = context.new_page()
    failed_before = request.session.testsfailed
    try:
        yield page
    finally:
        if request.session.testsfailed > failed_before:
            page.screenshot(path=Path(pictures.folder) / f"failed_{request.node.name}.png")
        context.close()
