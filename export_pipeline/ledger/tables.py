"""The ledger's tables: what was seen, planned, read and delivered. The truth of the whole pipeline.

    sources ─┬─ files ────────── manifests ─┬─ batches
             │                      │      ├─ folded
             └─ subscriptions ── deliveries ┴─ acceptances

A manifest is planned once and never changed; deliveries record to whom each manifest is owed. Both conservation
equations are columns here, so that anyone can check them with one query.
"""

from datetime import datetime, timezone
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC: aware in Python, without a time zone in the database (SQLite has none)."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Reject a moment without a time zone instead of guessing one."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(timezone.utc).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Return what was stored, as UTC."""
        return None if value is None else value.replace(tzinfo=timezone.utc)


def key_type() -> TypeEngine[str]:
    """Object keys sort by their UTF-8 bytes, as S3 lists them; PostgreSQL's default collation would not."""
    return Text().with_variant(Text(collation="C"), "postgresql")


metadata = MetaData()

# One row, written when the ledger is created: distinguishes this ledger from all others; see ledger.database.
identity = Table(
    "identity",
    metadata,
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("id", String(32), nullable=False),
)

sources = Table(
    "sources",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("url", Text, nullable=False, unique=True),
    # Set while the last listing stopped at max_files: the sensor then starts the next run at once.
    Column("more_to_list", Boolean, nullable=False, default=False),
    # Everything foldable of earlier days is folded; null: nothing was folded yet.
    Column("folded_before", Date),
    # How far the source has been listed; see ledger.sources.
    Column("listed_at", UtcDateTime),
    Column("listing_began_at", UtcDateTime),
    Column("listing_after", key_type()),
    Column("frontier", key_type()),
    Column("complete_at", UtcDateTime),
    Column("start_date", Date),
    # The day of the first file, as far as it is known; the partitions of the assets begin there.
    Column("first_day", Date),
    # When the last run of the export ended, and the last that succeeded; see ledger.counters.
    Column("run_ended_at", UtcDateTime),
    Column("run_succeeded_at", UtcDateTime),
)

manifests = Table(
    "manifests",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("source_id", ForeignKey("sources.id"), nullable=False),
    # Where its files are: in the source, or in the quarantine, from where they are retried. "refused" is also there:
    # events that one subscriber refused, and that all others received in the batches of another manifest.
    Column("origin", String(12), nullable=False, default="source"),
    Column("day", Date, nullable=False),
    Column("first_key", key_type(), nullable=False),
    Column("files", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("max_events", Integer, nullable=False),
    Column("max_bytes", BigInteger, nullable=False),
    # See ledger.manifests for the transitions.
    Column("state", String(12), nullable=False),
    Column("planned_at", UtcDateTime, nullable=False),
    Column("planned_by_run", String(64), nullable=False),
    Column("read_at", UtcDateTime),
    Column("read_attempts", Integer, nullable=False, default=0),
    # When the latest failed reading began; see ledger.manifests.
    Column("tried_at", UtcDateTime),
    # The run that began to read it and has not finished; if no one holds the claim of reading it, that run died of it.
    Column("reading_run_id", String(64)),
    # How many readings in a row died before the one that reading_run_id began.
    Column("reading_deaths", Integer),
    Column("last_error", Text),
    # The manifest with the same files except the unreadable ones; set once, when state becomes superseded.
    Column("successor_id", ForeignKey("manifests.id")),
    Column("bytes_unpacked", BigInteger),
    Column("batches", Integer),
    # Limits of the first reading, as JSON: a second reading must find the same events.
    Column("read_limits", Text),
    # For each file, in key order, how many of its events are in batches; as JSON.
    Column("events_of_files", Text),
    # For the rest of a manifest that must not change and can no longer be read as a whole; see ledger.parts.
    Column("part_of", String(32)),
    Column("part_files", Text),
    # events_framed = events_batched + events_quarantined
    Column("events_framed", BigInteger),
    Column("events_batched", BigInteger),
    Column("events_quarantined", BigInteger),
    # Set while its files, batches and acceptances are in ``folded``, and not in their tables.
    Column("folded_at", UtcDateTime),
    Index("ix_manifests_day", "source_id", "day"),
    Index("ix_manifests_read_at", "source_id", "read_at"),
    Index("ix_manifests_not_folded", "source_id", "day", sqlite_where=text("folded_at IS NULL")),
    Index("ix_manifests_unreadable", "source_id", sqlite_where=text("read_attempts > 0")),
    Index(
        "ix_manifests_troubled",
        "source_id",
        sqlite_where=text("last_error IS NOT NULL OR reading_run_id IS NOT NULL"),
    ),
    Index("ix_manifests_part_of", "part_of", sqlite_where=text("part_of IS NOT NULL")),
)

files = Table(
    "files",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True),
    Column("key", key_type(), primary_key=True),
    Column("etag", String(256), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("last_modified", UtcDateTime, nullable=False),
    Column("day", Date, nullable=False),
    # Null only if the file was seen and, by configuration, not taken; note then says why.
    Column("manifest_id", ForeignKey("manifests.id")),
    Column("seen_at", UtcDateTime, nullable=False),
    # Else the quarantine's object that a retry planned it from, until it is read; see ledger.retries.
    Column("note", Text),
    Index("ix_files_manifest_id", "manifest_id"),
    sqlite_with_rowid=False,
)

batches = Table(
    "batches",
    metadata,
    Column("manifest_id", ForeignKey("manifests.id"), primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("events", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("crc32", BigInteger, nullable=False),
    # Positions in the manifest's key order, as JSON: which files the events come from.
    Column("file_positions", Text, nullable=False),
    sqlite_with_rowid=False,
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source_id", ForeignKey("sources.id"), nullable=False),
    Column("name", String(64), nullable=False),
    # As in the deployment file when it was last applied; null: not set.
    Column("since", String(32)),
    # A file is owed if its day and its arrival are not before these; null: no limit.
    Column("start_day", Date),
    Column("start_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("inactive_since", UtcDateTime),
    Column("last_success_at", UtcDateTime),
    # Null if the latest attempt succeeded.
    Column("last_error", Text),
    Column("last_error_at", UtcDateTime),
    # It failed permanently, until the user changes something: a wrong password, a destination that is gone.
    Column("is_blocked", Boolean, nullable=False, default=False, server_default=false()),
    # After a failure, later manifests are held back for the rest of the run, to keep order and to spare the receiver.
    Column("last_error_run_id", String(64)),
    # The run that delivered to it last, and how long that run has spent on it: its time budget.
    Column("spent_run_id", String(64)),
    Column("spent_seconds", Float),
    # Sums since counted_since; null: since the subscription was created. See ledger.counters.
    Column("delivered_events", BigInteger, nullable=False, default=0, server_default="0"),
    Column("delivered_bytes", BigInteger, nullable=False, default=0, server_default="0"),
    Column("delivered_batches", BigInteger, nullable=False, default=0, server_default="0"),
    Column("refused_events", BigInteger, nullable=False, default=0, server_default="0"),
    Column("filtered_events", BigInteger, nullable=False, default=0, server_default="0"),
    Column("calls", BigInteger, nullable=False, default=0, server_default="0"),
    Column("retries", BigInteger, nullable=False, default=0, server_default="0"),
    Column("failed_attempts", BigInteger, nullable=False, default=0, server_default="0"),
    Column("call_seconds", Float, nullable=False, default=0, server_default="0"),
    Column("counted_since", UtcDateTime),
    UniqueConstraint("source_id", "name", name="uq_subscriptions_source_id_name"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("manifest_id", ForeignKey("manifests.id"), primary_key=True),
    Column("subscription_id", ForeignKey("subscriptions.id"), primary_key=True),
    # Copied from the manifest so that "the oldest owed" is a short scan of an index, however old the ledger is.
    Column("day", Date, nullable=False),
    Column("first_key", key_type(), nullable=False),
    # See ledger.deliveries for the transitions.
    Column("state", String(12), nullable=False),
    # Increases when a replay requests the same manifest again.
    Column("round", Integer, nullable=False, default=1),
    Column("owed_at", UtcDateTime, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("last_run_id", String(64)),
    Column("last_error", Text),
    Column("delivered_at", UtcDateTime),
    # events_batched = accepted + refused + filtered, once delivered
    Column("accepted", BigInteger),
    Column("refused", BigInteger),
    Column("filtered", BigInteger),
    Index("ix_deliveries_last_run_id", "last_run_id"),
    Index(
        "ix_deliveries_owed",
        "subscription_id",
        "day",
        "first_key",
        sqlite_where=text("state = 'owed'"),
        # Also on PostgreSQL, as in the migration. Naming it here would load that dialect, 34 ms, at every start.
    ),
)

acceptances = Table(
    "acceptances",
    metadata,
    Column("manifest_id", ForeignKey("manifests.id"), primary_key=True),
    Column("subscription_id", ForeignKey("subscriptions.id"), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("accepted", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("filtered", Integer, nullable=False),
    Column("accepted_at", UtcDateTime, nullable=False),
    sqlite_with_rowid=False,
)

# What a subscriber has of a batch that it took in part; deleted once the batch is accepted. See ledger.portions.
portions = Table(
    "portions",
    metadata,
    Column("manifest_id", ForeignKey("manifests.id"), primary_key=True),
    Column("subscription_id", ForeignKey("subscriptions.id"), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("step", Integer, primary_key=True),
    # As compressed JSON.
    Column("steps", LargeBinary, nullable=False),
)

folded = Table(
    "folded",
    metadata,
    Column("manifest_id", ForeignKey("manifests.id"), primary_key=True),
    Column("source_id", ForeignKey("sources.id"), nullable=False),
    Column("day", Date, nullable=False),
    Column("first_key", key_type(), nullable=False),
    Column("last_key", key_type(), nullable=False),
    Column("files", Integer, nullable=False),
    Column("first_modified", UtcDateTime, nullable=False),
    # 16 bytes per file, in key order; see ledger.folding.
    Column("fingerprints", LargeBinary, nullable=False),
    # The rows of ``batches``, as compressed JSON: the counts and checksums that a second reading must give.
    Column("batches", LargeBinary, nullable=False),
    Index("ix_folded_day", "source_id", "day", "first_key"),
)

backfill_days = Table(
    "backfill_days",
    metadata,
    # By url: a backfill may be requested before any run has seen the source.
    Column("source_url", Text, primary_key=True),
    Column("backfill_id", String(64), primary_key=True),
    Column("day", Date, primary_key=True),
    # Names, as a JSON list: fixed when the backfill is first seen.
    Column("subscribers", Text, nullable=False),
    Column("again", Boolean, nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
    # When its manifests were owed, or it was cancelled; null: no run has processed it.
    Column("settled_at", UtcDateTime),
    Index("ix_backfill_days_unsettled", "source_url", "day", sqlite_where=text("settled_at IS NULL")),
)

# What an entry of the quarantine keeps of one file, and what happened to it; see ledger.quarantined.
quarantined = Table(
    "quarantined",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True),
    # The entry: the name of its objects without ending and part.
    Column("name", String(256), primary_key=True),
    # Of a file in the source, also if it was retried before; empty if it is not known.
    Column("key", key_type(), primary_key=True),
    Column("state", String(12), primary_key=True),
    Column("manifest_id", String(32), nullable=False),
    Column("day", Date, nullable=False),
    Column("kind", String(12), nullable=False),
    Column("subscriber", String(64), nullable=False),
    Column("etag", String(256), nullable=False),
    # Of the first record, as its reason.
    Column("first_offset", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("kept_at", UtcDateTime, nullable=False),
    # The run.
    Column("kept_by", String(128), nullable=False),
    Column("changed_at", UtcDateTime),
    # A run, or a user.
    Column("changed_by", String(128)),
    Column("why", Text),
    Index("ix_quarantined_day", "source_id", "day"),
    Index("ix_quarantined_key", "source_id", "key"),
    Index("ix_quarantined_manifest_id", "manifest_id"),
    # Holds all that the counts need, so that the reasons, which are long, are not read for them.
    Index("ix_quarantined_counts", "source_id", "kind", "subscriber", "state", "records"),
)
