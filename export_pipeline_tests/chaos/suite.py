"""All servers up, campaign after campaign, until the time is over."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from export_pipeline_tests.chaos.account import Account
from export_pipeline_tests.chaos.campaign import Campaign
from export_pipeline_tests.chaos.receivers import Forgetful, Honouring
from export_pipeline_tests.chaos.site import Site
from export_pipeline_tests.chaos.store import FaultyStore
from export_pipeline_tests.servers.postgres import new_database, postgres_server
from export_pipeline_tests.servers.s3 import moto_server


def run_suite(
    folder: Path,
    *,
    seed: int,
    seconds: float,
    rounds: int,
    dagster_every: int,
    daemon_every: int = 0,
    most_campaigns: float = float("inf"),
    ledgers: tuple[str, ...] = ("sqlite", "postgresql"),
    say: Callable[[str], None] = print,
) -> Account:
    """Campaigns of *rounds* runs, on each of *ledgers* in turn, none of them begun after *seconds*.

    Args:
        dagster_every: each so-many-th run is the whole job; 0: none.
        daemon_every: each so-many-th campaign ends with the schedule in a daemon; 0: none.
        folder: empty; each campaign leaves its files there.
        most_campaigns: how many there are at most.
        seconds: no run begins after them; the campaign under way is brought to its end.
    """
    account = Account()
    until = time.monotonic() + seconds
    with ExitStack() as servers:
        s3 = servers.enter_context(moto_server(folder))
        (folder / "postgres").mkdir()
        database = servers.enter_context(postgres_server(folder / "postgres")) if "postgresql" in ledgers else ""
        number = 0
        while time.monotonic() < until and account.campaigns < most_campaigns:
            kind = ledgers[number % len(ledgers)]
            number += 1
            with ExitStack() as own:
                store = own.enter_context(FaultyStore(s3.url, seed=seed + number))
                site = Site(
                    folder / f"campaign-{number}-{kind}",
                    s3=s3,
                    store=store,
                    honouring=own.enter_context(Honouring()),
                    forgetful=own.enter_context(Forgetful()),
                    ledger=own.enter_context(new_database(database)) if kind == "postgresql" else "",
                )
                campaign = Campaign(site, account, seed=seed + number, dagster_every=dagster_every)
                campaign.rounds(rounds, until=until)
                if daemon_every and number % daemon_every == 0:
                    campaign.daemon_episode()
                campaign.finish()
                account.store_faults.update(store.happened)
            say(f"{site.root.name}: {account.runs} runs so far, {len(account.broken)} promises broken")
            for sentence in account.broken:
                say(f"  {sentence}")
    return account
