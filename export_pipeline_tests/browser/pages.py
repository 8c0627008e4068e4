"""The pages of Dagster's UI, by what a user does on them. Elements are found by role and by the words they show."""

import re

from playwright.sync_api import Locator, Page, expect

LOCATION = "/locations/export_pipeline"
# How soon the UI must show what has happened; the pages ask the server every few seconds.
SOON_MS = 30_000


def switch(page: Page, within: Locator | None = None) -> Locator:
    """The toggle of a schedule or sensor: what can be clicked, around the checkbox that has the state."""
    return (within or page.locator("body")).locator("label:has(input[type=checkbox])").first


def expect_switch(page: Page, *, on: bool) -> None:
    """Wait until the toggle is on, or off."""
    expect(switch(page).locator("input")).to_be_checked(checked=on)


def leave(page: Page) -> None:
    """Look at nothing for a while: an open page of the UI asks the server for news every few seconds."""
    page.goto("about:blank")


def open_schedule(page: Page) -> None:
    """The page of export_schedule."""
    page.goto(f"{LOCATION}/schedules/export_schedule")
    page.get_by_text("Execution timezone").wait_for()


def turn_schedule(page: Page, *, on: bool) -> None:
    """Open the page of export_schedule and see that its toggle is on, or off."""
    open_schedule(page)
    if switch(page).locator("input").is_checked() != on:
        switch(page).click()
    expect_switch(page, on=on)


def open_sensor(page: Page) -> None:
    """The page of new_files."""
    page.goto(f"{LOCATION}/sensors/new_files")
    page.get_by_role("button", name="Edit").wait_for()


def open_launchpad(page: Page, job: str) -> None:
    """The Launchpad, its default config loaded and checked."""
    page.goto(f"{LOCATION}/jobs/{job}/playground")
    page.get_by_text("ops", exact=True).first.wait_for()
    page.get_by_text("No errors").wait_for()


def launchpad_config(page: Page) -> str:
    """What the Launchpad's editor holds."""
    text: str = page.locator(".CodeMirror").first.evaluate("editor => editor.CodeMirror.getValue()")
    return text


def set_launchpad_config(page: Page, text: str) -> None:
    """Replace what the Launchpad's editor holds, as a person who pastes it does."""
    page.evaluate("text => document.querySelector('.CodeMirror').CodeMirror.setValue(text)", text)


def launch(page: Page) -> str:
    """Press Launch Run; returns the id of the run, whose page opens."""
    page.get_by_role("button", name="Launch Run").click()
    page.wait_for_url(re.compile(r"/runs/[0-9a-f-]{36}"))
    return run_id(page)


def run_id(page: Page) -> str:
    """The run that is shown."""
    return page.url.rpartition("/runs/")[2][:36]


def open_run(page: Page, identity: str) -> None:
    """A run's page."""
    page.goto(f"/runs/{identity}")
    page.get_by_text("EVENT TYPE").wait_for()


def expect_status(page: Page, status: str) -> None:
    """Wait until the run that is shown has a status."""
    expect(page.get_by_text(status, exact=True).first).to_be_visible(timeout=60_000)


def show_log_lines_only(page: Page) -> None:
    """Leave out Dagster's own events, so that the run reads like a report."""
    page.get_by_role("button", name="Levels").click()
    page.get_by_role("menuitem").filter(has_text="event").locator("label").click()
    page.keyboard.press("Escape")
    expect(page.get_by_text("ENGINE_EVENT").first).to_be_hidden()


def filter_log(page: Page, words: str) -> None:
    """Show only the events that fit, such as ``type:STEP_FAILURE``."""
    page.get_by_placeholder("Filter…").fill(words)


def execute_again_from_failure(page: Page) -> None:
    """Choose "From failure" beside the button of the run that is shown; the new run's page opens."""
    before = page.url
    page.locator("button:right-of(:text('Re-execute all'))").first.click()
    page.get_by_role("menuitem", name="From failure").click()
    page.wait_for_url(lambda url: "/runs/" in url and url != before)


def add_tags(page: Page, tags: dict[str, str]) -> None:
    """Give the runs of the backfill that is being prepared these tags."""
    page.get_by_role("button", name="Add tags to backfill runs").click()
    dialog = page.get_by_role("dialog").last
    for number, (key, value) in enumerate(tags.items()):
        if number:
            dialog.get_by_role("button", name="Add custom tag").click()
        dialog.get_by_placeholder("Tag Key").last.fill(key)
        dialog.get_by_placeholder("Tag Value").last.fill(value)
    dialog.get_by_role("button", name="Apply").click()


def open_materialize_dialog(page: Page, asset: str) -> Locator:
    """The dialog that materializes an asset for chosen days."""
    page.goto(f"/assets/{asset}")
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog").first
    expect(dialog.get_by_text("Backfills all partitions in a single run.")).to_be_visible()
    return dialog


def add_config(page: Page, dialog: Locator, text: str) -> None:
    """Give the runs of the backfill that is being prepared a config."""
    dialog.get_by_text("Config", exact=True).click()
    dialog.get_by_role("button", name="Add config").click()
    editor = page.get_by_role("dialog").last
    editor.get_by_text("No errors").wait_for()
    editor.locator(".CodeMirror").evaluate("(editor, text) => editor.CodeMirror.setValue(text)", text)
    editor.get_by_role("button", name="Save config").click()
    expect(dialog.get_by_text("Config saved")).to_be_visible()
