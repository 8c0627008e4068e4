"""Takes alerts over HTTP, as apprise's ``json://`` sends them."""

import json
from dataclasses import dataclass

from export_pipeline_tests.servers.http import Reply, Request, Server


@dataclass(frozen=True)
class Alert:
    """A message as it came; *kind* is info, success, warning or failure."""

    title: str
    body: str
    kind: str


class AlertReceiver(Server):
    """Takes every alert.

    Attributes:
        alerts: those that were taken, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alerts: list[Alert] = []

    @property
    def address(self) -> str:
        """The apprise URL, with a token in its path as many services have one."""
        return self.url.replace("http://", "json://") + "/planted-token"

    def titles(self) -> list[str]:
        """The titles of all that came, the oldest first."""
        return [alert.title for alert in self.alerts]

    def answer(self, request: Request) -> Reply:
        data = json.loads(request.body)
        self.alerts.append(Alert(data["title"], data["message"], data["type"]))
        return Reply(200, b"{}")
