"""Where the daily partitions of assets and of ``backfill_job`` begin: decided when the definitions load, offline."""

from datetime import date

from export_pipeline.deployment import Deployment
from export_pipeline.errors import ConfigurationError, LedgerError
from export_pipeline.ledger.sources import first_day_at
from export_pipeline.secrets import resolve
from export_pipeline.storage.location import parse_location


def first_partition(deployment: Deployment, *, today: date) -> date:
    """The first day that can be chosen in the UI.

    - ``source.start_date``, if the deployment file sets it
    - otherwise the day of the source's first file, as the ledger knows it since the first listing
    - if it does not know it yet, January 1 of last year: the days since 2020 would be thousands of empty partitions
    - if the ledger cannot be asked (PostgreSQL is down, an older version wrote it), the default of ``start_date``: too
      many partitions are a nuisance, but a day that is missing is one whose backfill Dagster fails

    Args:
        today: in UTC.
    """
    source = deployment.source
    if "start_date" in source.model_fields_set:
        return source.start_date
    try:
        found = first_day_at(resolve(deployment.ledger.url) or "", parse_location(source.url).url)
    except (ConfigurationError, LedgerError):
        return source.start_date
    begin = date(today.year - 1, 1, 1) if found is None else found
    return max(source.start_date, min(begin, today))
