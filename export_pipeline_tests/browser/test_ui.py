"""What a user sees and does in Dagster's UI, in a real browser on a real `dagster dev`.

One stage serves all tests, in this order. The schedule, which would tick at every full minute, is on only in those that
look at ticks: elsewhere a tick's run would take the files, and the place in the queue, of the test's own.
"""

import re

import yaml
from playwright.sync_api import Page, expect

from export_pipeline_tests.browser import pages
from export_pipeline_tests.browser.chromium import WIDTH
from export_pipeline_tests.browser.pages import SOON_MS
from export_pipeline_tests.browser.pictures import Pictures
from export_pipeline_tests.browser.stage import SECRET, SECRET_VARIABLE, Stage


def test_the_schedule_is_switched_off_and_on(page: Page, on_stage: Stage, pictures: Pictures) -> None:
    """export_schedule is on from the start, says what it runs, and can be switched off and on again."""
    pages.open_schedule(page)
    expect(page.get_by_text("Runs export_job")).to_be_visible()
    pages.expect_switch(page, on=True)
    for on in (False, True):
        pages.switch(page).click()
        pages.expect_switch(page, on=on)
        on_stage.wait_for_schedule("RUNNING" if on else "STOPPED")
    page.goto("/automation")
    expect(page.get_by_text("new_files")).to_be_visible()
    expect(page.get_by_text("Scheduled Every minute")).to_be_visible()
    pictures.take(page, "automation")
    pages.turn_schedule(page, on=False)
    on_stage.wait_for_schedule("STOPPED")


def test_export_job_is_launched_with_another_max_files(page: Page, on_stage: Stage, pictures: Pictures) -> None:
    """The Launchpad opens with max_files alone; changed to 5, the run takes five files and says that more wait."""
    on_stage.settle()
    on_stage.crm.hold_up()
    on_stage.arrive(files=8)
    pages.open_launchpad(page, "export_job")
    assert yaml.safe_load(pages.launchpad_config(page)) == {"ops": {"list_new_files": {"config": {"max_files": 100}}}}
    page.get_by_text("100", exact=True).dblclick()
    page.keyboard.type("5")
    expect(page.get_by_text("Maximum number of new files that this run finds")).to_be_visible()
    pictures.take(page, "launchpad")
    pages.launch(page)
    line = re.compile(r"found 5 new files.*; more are waiting for the next run")
    expect(page.get_by_text(line).first).to_be_visible(timeout=60_000)


def test_the_cursor_is_seen_and_edited(page: Page, on_stage: Stage, pictures: Pictures) -> None:
    """The page of new_files shows the key up to which the source was listed; a cursor that a user sets is used."""
    on_stage.ensure_exported()
    pages.open_sensor(page)
    expect(page.get_by_text(on_stage.dev.cursor())).to_be_visible()
    pictures.take(page, "cursor")
    page.get_by_role("button", name="Edit").click()
    dialog = page.get_by_role("dialog")
    first_day = on_stage.days()[0].replace("-", "/")
    dialog.get_by_role("textbox").fill(first_day)
    dialog.get_by_role("button", name="Set cursor value").click()
    expect(dialog).to_be_hidden()
    expect(page.get_by_text(first_day, exact=True)).to_be_visible()
    assert on_stage.dev.cursor() == first_day


def test_resources_show_no_secret(page: Page, on_stage: Stage, pictures: Pictures) -> None:
    """Each resource says what it is and how it is set; of a secret only the name of its variable shows."""
    page.set_viewport_size({"width": 1_700, "height": 900})
    page.goto(f"{pages.LOCATION}/resources")
    for name in ("archive", "crm", "ledger", "quarantine", "source", "staging"):
        page.locator(f"a[href$='/resources/{name}']").click()
        expect(page.get_by_text("Configuration").first).to_be_visible()
        expect(page.get_by_text("Description")).to_be_visible()
        assert SECRET not in page.content()
        if name == "crm":
            page.get_by_text(SECRET_VARIABLE).scroll_into_view_if_needed()
            expect(page.get_by_text(SECRET_VARIABLE)).to_be_visible()
            pictures.take(page, "resource")
        page.go_back()
    assert SECRET not in "".join(on_stage.dev.answers)


def test_a_tick_during_a_run_is_skipped_and_says_why(page: Page, on_stage: Stage, pictures: Pictures) -> None:
    """While a run is under way a due tick is skipped, and the page of the schedule tells the reason."""
    on_stage.crm.hold_up()
    on_stage.ensure_under_way()
    pages.turn_schedule(page, on=True)
    page.get_by_role("button", name="0 runs requested").first.click(timeout=90_000)
    reason = page.get_by_role("dialog").get_by_text(re.compile(r"run [0-9a-f]{8} of export_job is still under way"))
    expect(reason.first).to_be_visible()
    pictures.take(page, "skipped")
    pages.turn_schedule(page, on=False)
    on_stage.wait_for_schedule("STOPPED")


def test_a_backfill_of_three_days_is_launched_and_ends(page: Page, on_stage: Stage, pictures: Pictures) -> None:
    """The dialog accepts three days, and tags that choose a subscriber and everything; all it has comes again."""
    on_stage.settle()
    first, _, last = on_stage.days()[-3:]
    page.goto(f"{pages.LOCATION}/jobs/backfill_job/partitions")
    page.get_by_role("button", name="Launch backfill").click()
    dialog = page.get_by_role("dialog").first
    days = dialog.get_by_placeholder("ex: 2")
    days.fill(f"[{first}...{last}]")
    days.press("Enter")
    pages.add_tags(page, {"export_pipeline/only": "all", "export_pipeline/subscribers": "archive"})
    expect(dialog.get_by_role("button", name="Submit 3 runs")).to_be_enabled()
    pictures.take(page, "backfill_dialog")
    dialog.get_by_role("button", name="Submit 3 runs").click()
    expect(dialog).to_be_hidden()
    pages.leave(page)
    runs = on_stage.dev.wait_for(lambda: on_stage.backfill_runs(3), seconds=90)
    assert {run["status"] for run in runs} == {"SUCCESS"}
    page.goto("/runs?view=backfills")
    # The daemon looks at backfills every 30 seconds only.
    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=3 * SOON_MS)
    pictures.take(page, "backfill")
    steps = {event["stepKey"] for run in runs for event in on_stage.logged(run["runId"], "ExecutionStepSuccessEvent")}
    assert {step.partition("[")[0] for step in steps} == {
        "list_day_files",
        "read_batches",
        "deliver_to_archive",
        "report_unreadable_files",
    }


def test_a_failed_run_is_executed_again_from_failure(page: Page, on_stage: Stage, pictures: Pictures) -> None:
    """A subscriber that is down fails its step alone; re-executed from failure, that step alone runs, and succeeds."""
    on_stage.settle()
    on_stage.crm.is_down = True
    on_stage.arrive()
    failed = on_stage.launch()
    assert on_stage.wait_until_ended(failed) == "FAILURE"
    pages.open_run(page, failed)
    pages.expect_status(page, "Failure")
    pages.filter_log(page, "type:STEP_FAILURE")
    expect(page.get_by_text("answered 503: down for maintenance").first).to_be_visible()
    page.get_by_text("what happens next").first.scroll_into_view_if_needed()
    expect(page.get_by_text("what happens next").first).to_be_visible()
    pictures.take(page, "failure")
    pages.open_run(page, failed)
    pages.show_log_lines_only(page)
    expect(
        page.get_by_text(re.compile(r"crm did not accept a batch: .* status 503\]; next: the next run")).first
    ).to_be_visible()
    expect(page.get_by_text(re.compile(r"this run: found .*; still owed: crm \d+ files?")).first).to_be_visible()
    pictures.take(page, "failure_lines")
    on_stage.crm.is_down = False
    pages.execute_again_from_failure(page)
    again = pages.run_id(page)
    assert again != failed
    pages.expect_status(page, "Success")
    steps = {event["stepKey"].partition("[")[0] for event in on_stage.logged(again, "ExecutionStepSuccessEvent")}
    assert steps == {"deliver_to_crm"}
    pages.filter_log(page, "crm accepted")
    expect(page.get_by_text(re.compile(r"crm accepted [\d,]+ events")).first).to_be_visible()
    pictures.take(page, "executed_again")


def test_a_run_reads_like_a_report(page: Page, on_stage: Stage, pictures: Pictures) -> None:
    """With Dagster's own events left out, a run says what it found and what each subscriber accepted, and how fast."""
    on_stage.settle()
    on_stage.arrive(files=6)
    identity = on_stage.launch()
    assert on_stage.wait_until_ended(identity) == "SUCCESS"
    page.set_viewport_size({"width": WIDTH, "height": 1_000})
    pages.open_run(page, identity)
    pages.show_log_lines_only(page)
    expect(page.get_by_text(re.compile(r"found 6 new files since .*, planned as")).first).to_be_visible()
    for name in ("archive", "crm"):
        expect(page.get_by_text(re.compile(rf"{name} accepted [\d,]+ events of .* events/s\)")).first).to_be_visible()
    pictures.take(page, "run")


def test_checks_are_run_by_hand(page: Page, on_stage: Stage, pictures: Pictures) -> None:
    """The checks of assets are run by hand, and say on an asset's page in words and numbers what they found."""
    on_stage.settle()
    on_stage.ensure_exported()
    page.set_viewport_size({"width": WIDTH, "height": 900})
    page.goto("/assets/crm?view=checks")
    page.get_by_role("button", name="Execute all").click()
    on_stage.dev.wait_for(on_stage.checks_have_ended)
    assert on_stage.wait_until_ended(on_stage.launch("check_job")) == "SUCCESS"
    page.goto("/assets/crm?view=checks&checkDetail=every_event_accounted_for")
    expect(page.get_by_text(re.compile(r"[\d,]+ events in batches of .* accepted \+ 0 refused")).first).to_be_visible()
    for name in ("completeness", "every_event_accounted_for", "freshness"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    pictures.take(page, "checks")


def test_an_asset_plots_its_numbers(page: Page, on_stage: Stage, pictures: Pictures) -> None:
    """An asset shows what it is, whose, where its events go, its days, and its numbers as plots by day."""
    on_stage.ensure_exported()
    page.set_viewport_size({"width": WIDTH, "height": 1_100})
    page.goto("/assets/crm")
    expect(page.get_by_text("files that it is still owed")).to_be_visible()
    expect(page.get_by_role("link", name=on_stage.crm.url).first).to_be_visible()
    for shown in ("webhook", "analytics", "events@example.com"):
        expect(page.get_by_text(shown, exact=True).first).to_be_visible()
    page.get_by_role("button", name="Plots").click()
    numbers = ["bytes", "events", "events_of_day", "events_per_second", "files", "files_of_day", "files_waiting"]
    numbers += ["filtered", "lag_seconds", "refused"]
    for name in numbers:
        expect(page.get_by_text(name, exact=True).last).to_be_visible()
    expect(page.locator("canvas")).to_have_count(len(numbers))
    pictures.take(page, "asset")


def test_raw_events_list_the_files_of_a_manifest(page: Page, on_stage: Stage, pictures: Pictures) -> None:
    """What raw_events show of a manifest holds a table of its files, with sizes and arrivals."""
    on_stage.ensure_exported()
    page.set_viewport_size({"width": WIDTH, "height": 1_100})
    page.goto("/assets/raw_events?view=events")
    page.get_by_text("first_files", exact=True).first.wait_for()
    expect(page.get_by_text("arrived", exact=True).first).to_be_visible()
    expect(page.get_by_text(re.compile(r"^\d{4}/\d\d/\d\d/.*\.gz$")).first).to_be_visible()
    pictures.take(page, "files")


def test_a_record_is_found_in_the_quarantine_and_dismissed(page: Page, on_stage: Stage, pictures: Pictures) -> None:
    """The asset names what waits, without its bytes; the job dismisses it by its id, and the asset says by whom."""
    on_stage.settle()
    on_stage.ensure_exported()
    page.set_viewport_size({"width": WIDTH, "height": 820})
    page.goto("/assets/quarantine?view=events")
    expect(page.get_by_text("newest", exact=True).first).to_be_visible()
    expect(page.get_by_text("kept", exact=True).first).to_be_visible()
    (entry,) = on_stage.quarantined()
    expect(page.get_by_text(entry, exact=True).first).to_be_visible()
    pictures.take(page, "quarantine")
    pages.open_launchpad(page, "dismiss_quarantine")
    assert yaml.safe_load(pages.launchpad_config(page)) == {
        "ops": {"dismiss_records": {"config": {"ids": [], "why": ""}}}
    }
    config = {"ids": [entry], "why": "a test device", "by": "ann"}
    pages.set_launchpad_config(page, yaml.safe_dump({"ops": {"dismiss_records": {"config": config}}}))
    pictures.take(page, "dismiss")
    assert on_stage.wait_until_ended(pages.launch(page)) == "SUCCESS"
    page.goto("/assets/quarantine?view=events")
    expect(page.get_by_text("ann: a test device").first).to_be_visible()
    assert on_stage.quarantined() == []


def test_the_asset_graph_shows_where_events_go(page: Page, on_stage: Stage, pictures: Pictures) -> None:
    """raw_events leads to one asset for each subscriber, and each says how many of its checks passed."""
    page.goto("/asset-groups")
    for name in ("raw_events", "archive", "crm"):
        expect(page.get_by_text(name, exact=True).last).to_be_visible()
    expect(page.get_by_text("% filled").first).to_be_visible()
    expect(page.get_by_text("3 / 3 Passed")).to_have_count(3)
    pictures.take(page, "lineage")


def test_an_asset_is_materialized_for_a_range_of_days(page: Page, on_stage: Stage, pictures: Pictures) -> None:
    """The partitions begin at the first file; the dialog of an asset takes all of them, and a config; one run delivers
    the days to that subscriber, and every day of the asset is filled.
    """
    on_stage.ensure_exported()
    on_stage.settle()
    days = on_stage.partitions("archive")
    assert days[0] == on_stage.days()[0]
    dialog = pages.open_materialize_dialog(page, "archive")
    dialog.get_by_role("button", name="All", exact=True).click()
    pages.add_config(page, dialog, "ops:\n  deliver_days:\n    config:\n      only: all\n")
    expect(dialog.get_by_text(f"{len(days)} partitions", exact=True)).to_be_visible()
    pictures.take(page, "materialize")
    dialog.get_by_role("button", name="Launch backfill").click()
    expect(dialog).to_be_hidden()
    pages.leave(page)
    (run,) = on_stage.dev.wait_for(on_stage.materializing_runs, seconds=180)
    assert run["status"] == "SUCCESS"
    pages.open_run(page, run["runId"])
    pages.filter_log(page, f"all of {len(days)} days is delivered")
    expect(page.get_by_text(re.compile(r"archive accepted [\d,]+ events of [\d,]+ files")).first).to_be_visible()
    page.goto("/assets/archive?view=partitions")
    expect(page.get_by_text(f"Materialized ({len(days)})")).to_be_visible()
    expect(page.get_by_text(days[0], exact=True).first).to_be_visible()
    pictures.take(page, "partitions")


def test_ticks_that_ran_and_ticks_that_were_skipped(page: Page, on_stage: Stage, pictures: Pictures) -> None:
    """The history of the schedule shows ticks that started a run, with the run; then it is switched off for good."""
    on_stage.settle()
    pages.turn_schedule(page, on=True)
    expect(page.get_by_text("1 run requested").first).to_be_visible(timeout=90_000)
    pictures.take(page, "schedule")
    pages.switch(page).click()
    pages.expect_switch(page, on=False)
    on_stage.wait_for_schedule("STOPPED")
