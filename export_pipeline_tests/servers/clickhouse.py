"""ClickHouse itself, from the chdb package, behind the part of its HTTP interface that a client uses."""

import gzip
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from chdb import session

from export_pipeline_tests.servers.http import Reply, Request, Server

NOT_SETTINGS = {"query", "database", "wait_end_of_query", "session_id", "query_id", "user", "password", "role"}


class ClickhouseServer(Server):
    """Runs what it is asked in the engine. There is one engine a process."""

    def __init__(self, folder: str, user: str, password: str) -> None:
        super().__init__()
        self.user = user
        self.password = password
        self.session: Any = session.Session(folder)  # type: ignore[no-untyped-call]

    def query(self, sql: str, output: str = "TabSeparated") -> bytes:
        """Run a statement in the database; its rows as bytes in the format *output*."""
        answer: bytes = self.session.query(sql, output).bytes()
        return answer

    def answer(self, request: Request) -> Reply:
        if request.path == "/ping":
            return Reply(200, b"Ok.\n")
        given = dict(parse_qsl(urlsplit(request.target).query, keep_blank_values=True))
        if not self._may(request):
            text = f"Code: 516. DB::Exception: {self.user}: Authentication failed. (AUTHENTICATION_FAILED)"
            return Reply(403, text.encode(), {"x-clickhouse-exception-code": "516"})
        body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
        try:
            return Reply(200, self._run(given, body), {"x-clickhouse-format": "Native", "x-clickhouse-summary": "{}"})
        except RuntimeError as error:
            code = re.match(r"Code: (\d+)", str(error))
            return Reply(500, str(error).encode(), {"x-clickhouse-exception-code": code[1] if code else "1"})

    def _may(self, request: Request) -> bool:
        import base64

        wanted = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return request.headers.get("authorization") == f"Basic {wanted}"

    def _run(self, given: dict[str, str], body: bytes) -> bytes:
        settings = {name: value for name, value in given.items() if name not in NOT_SETTINGS}
        text = f"{given['query']}\n".encode() + body if "query" in given else body
        if database := given.get("database"):
            self.session.query(f"USE {database}")
        if match := re.match(rb"(?is)(insert into .*?)\s+(format \w+)\s(.*)", text):
            chosen = ", ".join(f"{name}='{value}'" for name, value in settings.items())
            sql = match[1] + f" SETTINGS {chosen} ".encode() + match[2] + b" " + match[3]
            self.session.query(sql.decode())
            return b""
        output = re.search(rb"(?i)format (\w+)\s*$", text)
        answer: bytes = self.session.query(text.decode(), output[1].decode() if output else "TabSeparated").bytes()
        return answer
