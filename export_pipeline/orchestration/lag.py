"""Subscribers that lag behind ``max_lag_minutes``, as the sensor ``alerts`` sees them: no run or check has to say so.

Only the ledger is asked, for the oldest file that each subscriber is owed. The check ``freshness`` also lists the
source; both report the same problem, so that it is sent once where both find it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from sqlalchemy.exc import SQLAlchemyError

from export_pipeline.alerting.happening import ERROR, Failing, Happening
from export_pipeline.deployment import Deployment
from export_pipeline.ledger import owed, sources, subscriptions
from export_pipeline.ledger.database import asked_briefly
from export_pipeline.ledger.owed import Waiting
from export_pipeline.orchestration import check_results
from export_pipeline.orchestration.checks import FRESHNESS
from export_pipeline.quantities import lasting
from export_pipeline.secrets import resolve
from export_pipeline.storage.location import parse_location


def lagging(deployment: Deployment, now: float) -> Happening | None:
    """Whose oldest owed file is older than ``max_lag_minutes``, and whose is not.

    Args:
        now: seconds since 1970.

    Returns:
        None: no limit is set, the deployment is not enabled, or the ledger does not answer, which runs report.
    """
    if deployment.max_lag_minutes is None or not deployment.enabled:
        return None
    try:
        waiting = _waiting(deployment)
    except SQLAlchemyError:
        return None
    if not waiting:
        return None
    allowed, moment = timedelta(minutes=deployment.max_lag_minutes), datetime.fromtimestamp(now, timezone.utc)
    problems, fine = [], []
    for one in waiting:
        asset = "/".join(deployment.names.asset(one.subscriber))
        # As happenings.py names the check's problem.
        key, label = f"check/{asset}/{FRESHNESS}", f"{FRESHNESS} of {asset}"
        result = check_results.lag(one, allowed, moment)
        if result.passed:
            fine.append(key)
        else:
            problems.append(Failing(key, ERROR, label, f"{label}: {result.text}"))
    subject = f"delivery within {lasting(allowed.total_seconds())}"
    return Happening(subject, path="/assets", problems=tuple(problems), fine=tuple(fine))


def _waiting(deployment: Deployment) -> Sequence[Waiting]:
    with asked_briefly(resolve(deployment.ledger.url) or "") as tx:
        if tx is None:
            return ()
        source_id = sources.source_id(tx, parse_location(deployment.source.url).url)
        return () if source_id is None else owed.waiting(tx, source_id, subscriptions.active(tx, source_id))
