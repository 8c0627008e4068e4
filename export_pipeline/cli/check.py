"""``export-pipeline check``: test every location and every subscriber, and say what to do about those that fail."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from export_pipeline.cli.session import FAILED, JsonOption, Session, as_plain, database_errors_told
from export_pipeline.errors import ConfigurationError, ExportError, TryLater
from export_pipeline.printable import printable
from export_pipeline.quantities import counted
from export_pipeline.storage.folders import told_if_open

if TYPE_CHECKING:
    from export_pipeline.configuration.settings import OtlpSettings
    from export_pipeline.configuration.subscribers import SubscriberEntry
    from export_pipeline.deployment import Deployment
    from export_pipeline.secrets import EnvRef
    from export_pipeline.source.settings import SourceSettings
    from export_pipeline.storage.settings import StoreSettings

AlertsOption = Annotated[
    bool, typer.Option("--alerts", help="Send a test message to every address for alerts, and call heartbeats.")
]

_LISTED = 1_000
_PROBE = "checks"
"""The folder of staging and quarantine in which a test object is written, read and deleted."""
_SOURCE_ADVICE = "source.url and its credentials: they need permission to list the bucket and get its objects"
_QUEUE_ADVICE = (
    "source.notifications and the policies of credentials, queue and bucket (docs/notifications.md); until this works, "
    "no run finds new files"
)
_STORE_ADVICE = "its url and credentials: they need permission to put, get, list and delete objects there"
_LEDGER_ADVICE = (
    "ledger.url: for PostgreSQL host, user, password and permission to create tables; for SQLite the folder"
)
_EXECUTOR_ADVICE = "executor.broker, whether workers are running, and storage in dagster.yaml"
_ALERT_ADVICE = "the address under alerts: in the deployment file, in the variable that it names (docs/alerts.md)"
_COLLECTOR_ADVICE = "metrics.otlp or the variables OTEL_EXPORTER_OTLP_…; the receiver has to be one for OTLP over HTTP"
_UNKNOWN_HOST = re.compile(
    r"(?i)name or service not known|name resolution|nodename nor servname|name does not resolve|getaddrinfo|"
    r"no address associated|failed to lookup address|could not translate host name|dns error|unknown host"
)
_SUBSCRIBER_ADVICE = "its address and credentials; nothing is lost meanwhile, all data stays owed"


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """The result of one check.

    Attributes:
        name: what was tested: source, staging, quarantine, ledger, a subscriber's name, alerts or metrics.
        place: the URL, folder or host that was tried, without secrets; empty if unknown.
        detail: what was found, or what went wrong.
        advice: what to do; empty if the check passed.
    """

    name: str
    place: str
    is_well: bool
    detail: str
    advice: str
    seconds: float


def check(session: Session, alerts: AlertsOption = False, json: JsonOption = False) -> int:
    """Test every location, subscriber, address for alerts and collector of metrics; one line each, with the place.

    Writes a small object to staging and quarantine and deletes it again. Creates the ledger, or migrates it to this
    version, as a run would. Tests each subscriber as cheaply as its type allows; no event is sent. An
    unset variable fails only the check of the subscriber or alert that needs it. Exits with 1 if a check fails.
    """
    outcomes = []
    for outcome in _outcomes(session.deployment(without_variables=True), sends_alerts=alerts):
        if not json:
            _show(session, outcome)
        outcomes.append(outcome)
    if json:
        session.show_json(as_plain(outcomes))
    failed = [one.name for one in outcomes if not one.is_well]
    if failed and not json:
        session.note("", f"failed: {', '.join(failed)}")
    return FAILED if failed else 0


def _outcomes(deployment: "Deployment", *, sends_alerts: bool) -> Iterator[CheckOutcome]:
    source = deployment.source
    yield _tried("source", _folder(source.url), lambda: _source(source), _SOURCE_ADVICE)
    if source.notifications is not None:
        from export_pipeline.subscribers.scrubbing import public_url

        queue = public_url(source.notifications.queue_url)
        yield _tried("notifications", queue, lambda: _notifications(source), _QUEUE_ADVICE)
    for name, settings in (("staging", deployment.staging), ("quarantine", deployment.quarantine)):
        trial = partial(_objects, settings.url, settings)
        yield _tried(name, _folder(settings.url), trial, _STORE_ADVICE)
    yield _tried("ledger", _database(deployment), lambda: _ledger(deployment), _LEDGER_ADVICE)
    if deployment.executor.type != "in_process":
        yield _tried("executor", "", lambda: _executor(deployment), _EXECUTOR_ADVICE)
    for entry in deployment.subscribers.values():
        yield _tried(entry.name, _destination(entry), partial(_subscriber, entry), _SUBSCRIBER_ADVICE)
    if not deployment.subscribers:
        yield CheckOutcome("subscribers", "", True, "none is configured, so nothing is delivered", "", 0.0)
    for name, to in _addresses(deployment):
        trial = partial(_alert, deployment, to, sends=sends_alerts)
        yield _tried(name, _scheme(to), trial, _ALERT_ADVICE)
    for name, to in _heartbeats(deployment).items():
        trial = partial(_heartbeat, deployment, to, calls=sends_alerts)
        yield _tried(f"alerts: {name}", _scheme(to), trial, _ALERT_ADVICE)
    if (otlp := deployment.metrics.otlp) is not None:
        yield _tried("metrics", otlp.endpoint or "", lambda: _collector(deployment, otlp), _COLLECTOR_ADVICE)


def _tried(name: str, place: str, trial: Callable[[], str], advice: str) -> CheckOutcome:
    started = monotonic()
    try:
        detail = trial()
    except ExportError as error:
        return CheckOutcome(name, place, False, str(error), _advice(error, advice), monotonic() - started)
    except Exception as error:  # noqa: BLE001 (reported as the result; the exit code is 1)
        detail = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        return CheckOutcome(name, place, False, detail, f"check {advice}", monotonic() - started)
    return CheckOutcome(name, place, True, detail, "", monotonic() - started)


def _advice(error: ExportError, advice: str) -> str:
    if _UNKNOWN_HOST.search(str(error)):
        return "the name of the host cannot be resolved: check its spelling, and whether this machine can ask its DNS"
    if isinstance(error, TryLater):
        return "this may be temporary: try again"
    if isinstance(error, ConfigurationError):
        return "fix the deployment file"
    return f"check {advice}"


def _folder(url: str) -> str:
    from export_pipeline.storage.location import parse_location

    try:
        return parse_location(url).url
    except ConfigurationError:
        return ""  # the check itself says why


def _database(deployment: "Deployment") -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    from export_pipeline.secrets import resolve

    url = resolve(deployment.ledger.url) or ""
    try:
        return make_url(url).render_as_string(hide_password=True) if "://" in url else os.path.abspath(url)
    except ArgumentError:
        return ""


def _destination(entry: "SubscriberEntry") -> str:
    from export_pipeline.orchestration.assets import destination_place

    return destination_place(entry.type_name, entry.options) or ""


def _addresses(deployment: "Deployment") -> "Iterator[tuple[str, str | EnvRef]]":
    from export_pipeline.orchestration.alerts import addresses_of

    for address in addresses_of(deployment.alerts):
        yield f"alerts to {address.channel.name}", address.to


def _heartbeats(deployment: "Deployment") -> "dict[str, str | EnvRef]":
    from export_pipeline.orchestration.alerts import heartbeats_of

    return heartbeats_of(deployment.alerts)


def _scheme(to: "str | EnvRef") -> str:
    """An address without what is secret in it, which is nearly everything."""
    from export_pipeline.secrets import resolve

    try:
        scheme, found, _ = (resolve(to) or "").partition("://")
    except ConfigurationError:
        return ""
    return f"{scheme}://…" if found and scheme.isalnum() else ""


def _alert(deployment: "Deployment", to: "str | EnvRef", *, sends: bool) -> str:
    from export_pipeline.alerting.happening import compose
    from export_pipeline.alerting.sending import send, service_of
    from export_pipeline.secrets import resolve

    url = resolve(to) or ""
    service = service_of(url)
    if not sends:
        return f"an address of {service}; check --alerts sends it a test message"
    title = f"[{deployment.names.prefixed(deployment.name)}] test message"
    text = "export-pipeline check --alerts sent this. Failures and recoveries of this export arrive here."
    send(url, compose(title, text, kind="info"), secrets=deployment.secret_values())
    return f"{service} accepted a test message"


def _heartbeat(deployment: "Deployment", to: "str | EnvRef", *, calls: bool) -> str:
    from export_pipeline.orchestration.alerts import HEARTBEAT_SECONDS, call_heartbeat
    from export_pipeline.secrets import resolve
    from export_pipeline.subscribers.http_client import HttpClient

    if calls:
        call_heartbeat(deployment, to)
        return "it was called, and answered"
    with closing(HttpClient()) as client:
        client.connect(resolve(to) or "", timeout_seconds=HEARTBEAT_SECONDS)
    return "its server accepts connections; check --alerts calls it, as a run that ended well does"


def _collector(deployment: "Deployment", otlp: "OtlpSettings") -> str:
    from export_pipeline.orchestration.metrics import push_to

    push_to(deployment, otlp, None)
    return "the collector accepted metrics"


def _source(settings: "SourceSettings") -> str:
    from export_pipeline.source.layout import Layout
    from export_pipeline.source.store import open_source

    layout = Layout(settings.layout)
    source = open_source(settings)
    try:
        files = list(islice(source.list_files(), _LISTED))
        dated = [file for file in files if layout.date_of(file.key)]
        for file in dated[:1]:
            next(iter(source.read_chunks(file, chunk_bytes=1)), b"")
    finally:
        source.close()
    left_out = source.take_left_out()
    remark = ""
    if left_out.ignored:
        key, pattern = next(iter(left_out.ignored_keys.items()))
        names = counted(left_out.ignored, "temporary or hidden name")
        remark += f"; ignored {names}, such as {printable(key)}, which matches {pattern!r} in source.ignore"
    if left_out.troubles:
        key, reason = next(iter(left_out.troubled_keys.items()))
        remark += f"; {counted(left_out.troubles, 'listing warning')}, the first for {printable(key)}: {reason}"
    if not files:
        return f"{source.url} is empty so far{remark}"
    if not dated:
        raise ConfigurationError(
            f"{source.url}: none of the first {counted(len(files), 'key')} matches the layout {settings.layout!r}, "
            f"such as {printable(files[0].key)}"
        )
    return f"listed and read {source.url}; its first dated key is {printable(dated[0].key)}{remark}"


def _notifications(settings: "SourceSettings") -> str:
    from export_pipeline.source.queue import check_queue

    return check_queue(settings)


def _objects(url: str, settings: "StoreSettings") -> str:
    from export_pipeline.errors import StoreError
    from export_pipeline.storage.location import parse_location
    from export_pipeline.storage.objects import open_objects

    objects = open_objects(url, settings, private=True)
    name, data = f"{_PROBE}/{uuid4().hex}", b"written by export-pipeline check\n"
    objects.put(name, data)
    try:
        if objects.get(name) != data or name not in set(objects.list(_PROBE)):
            raise StoreError(f"{objects.url}: the object {name} was read back with other content, or is not listed")
    finally:
        objects.delete(name)
    remark = told_if_open(parse_location(url).prefix) if objects.is_local else ""
    return f"wrote, listed, read and deleted a test object in {objects.url}{remark}"


def _ledger(deployment: "Deployment") -> str:
    from sqlalchemy import func, select

    from export_pipeline.ledger import tables as t
    from export_pipeline.ledger.database import HEAD, Ledger
    from export_pipeline.secrets import resolve

    with database_errors_told(), closing(Ledger(resolve(deployment.ledger.url) or "")) as ledger:
        with ledger.read() as tx:
            manifests = tx.execute(select(func.count()).select_from(t.manifests)).scalar_one()
        with ledger.claims.claim(f"check:{uuid4().hex}"):
            pass
        remark = told_if_open(os.path.abspath(ledger.engine.url.database or "")) if ledger.is_sqlite else ""
    return f"{ledger.description}: schema {HEAD}, {counted(manifests, 'manifest')}, locks work{remark}"


def _executor(deployment: "Deployment") -> str:
    from export_pipeline.cli.instance import dagster_instance
    from export_pipeline.orchestration.build import definitions_of, workers_of

    kind = deployment.executor.type
    definitions_of(deployment)  # Dagster's own schema of the executor's options
    if not deployment.executor.is_distributed:
        return f"{kind}: Dagster accepts its options"
    with dagster_instance() as instance:
        storage = type(instance.event_log_storage).__name__
        if "Sqlite" in storage or instance.is_ephemeral:
            raise ConfigurationError(
                f"dagster.yaml: found local storage ({storage}), but executor {kind} runs steps on other machines; "
                "allowed: storage.postgres, which every machine can reach"
            )
    if kind != "celery":
        return f"{kind}: Dagster accepts its options, and its storage is shared; only a run shows whether steps start"
    workers = workers_of(deployment)
    if not workers:
        raise ConfigurationError(
            "celery: no worker answered; start one: celery -A export_pipeline.celery_app worker --concurrency 1"
        )
    return f"celery: {counted(len(workers), 'worker')} answered: {', '.join(workers)}"


def _subscriber(entry: "SubscriberEntry") -> str:
    from export_pipeline.steps.open import open_subscriber
    from export_pipeline.subscribers.base import Subscriber

    if entry.unusable:
        raise ConfigurationError(entry.unusable)
    with open_subscriber(entry) as subscriber:
        subscriber.check()
    if type(subscriber).check is Subscriber.check:
        return f"{entry.type_name}: its options are valid; this type cannot be tested without delivering"
    return f"{entry.type_name}: its own check passed"


def _show(session: Session, outcome: CheckOutcome) -> None:
    from rich.text import Text

    from export_pipeline.cli import printing

    is_named = not outcome.place or outcome.place in outcome.detail
    told = Text(session.clean(outcome.detail if is_named else f"{outcome.place}: {outcome.detail}"))
    if outcome.advice:
        told.append(f"\n{outcome.advice}", style="italic")
    state = Text("ok", style="green") if outcome.is_well else Text("FAILED", style="bold red")
    session.show(printing.lines([(outcome.name, state, told)]))
