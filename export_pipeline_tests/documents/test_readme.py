"""README.md as a newcomer meets it: pasted block by block into a bare shell, and read on the package index."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import pytest

from export_pipeline.sample_bucket import make_sample_bucket
from export_pipeline_tests.documents.blocks import REPOSITORY, ROOT, Block, blocks_of
from export_pipeline_tests.servers.s3 import REGION, S3Server, moto_server
from export_pipeline_tests.test_project_files import PYPROJECT

README = (ROOT / "README.md").read_text(encoding="utf-8")
STAY = {"make dev", "export-pipeline dev"}
"""Commands that run until they are stopped: the tests of daemon and UI start them."""
EVENTS = 60

# What a machine needs to reach the package index. Nothing else of this process' environment is passed on.
NETWORK = re.compile(r"(PIP|SSL)_\w+|\w+_(proxy|PROXY)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE")

# Installing takes a minute. This makes the environment of `make demo` out of that of the tests, without pip:
# a recipe that wanted to install something would fail.
PREPARED = """
import os, shutil, sys, venv
from pathlib import Path
outer, packages = Path(sys.argv[1]), sys.argv[2]
venv.create(".venv")
(inner,) = Path(".venv/lib").glob("*/site-packages")
(inner / "shared.pth").write_text(f"import site; site.addsitedir({packages!r})\\n")
for name in ("dagster", "dagster-webserver", "dagster-daemon", "export-pipeline"):
    text = (outer / name).read_text().split("\\n", 1)[1]
    script = Path(".venv/bin", name)
    script.write_text(f"#!{os.getcwd()}/.venv/bin/python\\n{text}")
    script.chmod(0o755)
Path(".venv/.installed").touch()
"""


@dataclass
class Machine:
    """A bare machine: an empty home and folder, only the system's programs, and an S3 with the buckets of README."""

    folder: Path
    environment: dict[str, str]
    s3: S3Server

    def paste(self, script: str) -> str:
        """What a shell prints that gets *script* on its input, which stops at the first command that fails."""
        done = subprocess.run(
            ["/bin/bash", "--noprofile", "--norc", "-e"],
            input=script,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        assert "Traceback" not in done.stderr
        return done.stdout


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    home, folder, programs = (tmp_path / name for name in ("home", "folder", "programs"))
    for made in (home, folder, programs):
        made.mkdir()
    # The Python of the tests, and not the environment that they run in.
    (programs / "python3").symlink_to(getattr(sys, "_base_executable", sys.executable))
    (home / ".gitconfig").write_text(f'[url "file://{origin(tmp_path)}"]\n  insteadOf = {REPOSITORY}.git\n')
    with moto_server(tmp_path) as server:
        fill(server, tmp_path / "sample")
        yield Machine(
            folder,
            {
                "HOME": str(home),
                "PATH": f"{programs}:/usr/bin:/bin",
                "AWS_ENDPOINT_URL": server.url,
                "AWS_DEFAULT_REGION": REGION,
                "AWS_ACCESS_KEY_ID": server.access_key,
                "AWS_SECRET_ACCESS_KEY": server.secret_key,
            },
            server,
        )


def origin(tmp_path: Path) -> Path:
    """A repository of one commit, which holds what git would take of this checkout."""
    made = tmp_path / "origin"
    made.mkdir()
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com"]
    listed = [*git, "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, made / name)
    for command in (["init", "--quiet"], ["add", "--all", "--force"], ["commit", "--quiet", "--message", "all"]):
        subprocess.run([*git, "-C", str(made), *command], check=True)
    return made


def fill(server: S3Server, folder: Path) -> None:
    """The source of README, with a file under the key that its commands name, and the empty bucket for the archive."""
    make_sample_bucket(folder, events=EVENTS, files=6, until=datetime(2026, 11, 3, 18, tzinfo=timezone.utc))
    objects = {f"events/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    client = server.client()
    for bucket in ("acme-analytics", "acme-archive"):
        client.create_bucket(Bucket=bucket)
    server.put("acme-analytics", {**objects, "events/2026/11/01/09/part-7.gz": b'{"event_type":"pageView"}\n'})


def steps(*, until: str = "") -> Iterator[str]:
    """README's blocks as one pastes them, in order: commands as they are, and files that blocks name."""
    text = README.partition(f"\n## {until}\n")[0] if until else README
    for block in blocks_of("README.md", text):
        if block.mark or STAY.issuperset(block.commands):
            continue
        if block.language == "sh":
            yield block.text
        elif block.file:
            yield f"cat > {shlex.quote(block.file)} <<'END_OF_FILE'\n{block.text}END_OF_FILE\n"


def prepared() -> str:
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    return shlex.join(["python3", "-c", PREPARED, str(Path(sys.executable).parent), packages])


def delivered(server: S3Server) -> int:
    listed = server.client().list_objects_v2(Bucket="acme-archive")
    return len(listed.get("Contents", []))


@pytest.mark.timeout(900)
def test_the_first_blocks_work_when_pasted(machine: Machine) -> None:
    """On a bare machine the blocks up to the guarantees work literally, in order, from the clone to the export of the
    user's own bucket. Only the installation by pip is skipped.
    """
    first, *others = steps(until="Guarantees")
    assert "cd export_pipeline\n" in first
    printed = machine.paste(
        "\n".join([first.replace("cd export_pipeline\n", f"cd export_pipeline\n{prepared()}\n"), *others])
    )
    assert re.search(r"Delivered +3,000 events to archive", printed)
    assert delivered(machine.s3) > 0
    assert {path.name for path in Path(machine.environment["HOME"]).iterdir()} == {".gitconfig"}


@pytest.mark.thorough
@pytest.mark.timeout(1800)
def test_every_block_works_when_pasted(machine: Machine) -> None:
    """All blocks of README work as they are, in order, on a bare machine: `make demo` installs everything by pip."""
    machine.environment |= {name: value for name, value in os.environ.items() if NETWORK.fullmatch(name)}
    printed = machine.paste("\n".join(steps()))
    assert re.search(r"Delivered +3,000 events to archive", printed)
    assert delivered(machine.s3) > 0
    assert "export_schedule" in printed
    assert (machine.folder / "export_pipeline" / "day.csv").read_text().startswith("event_type")


def test_every_block_is_pasted_or_said_to_stay() -> None:
    """The blocks left out are those that stay until they are stopped, and those with a mark."""
    left_out = [block for block in blocks_of("README.md", README) if not block.mark and STAY.issuperset(block.commands)]
    assert {command for block in left_out for command in block.commands if block.language == "sh"} == STAY
    assert all(is_alone(block) for block in left_out if block.language == "sh")


def is_alone(block: Block) -> bool:
    """Whether a block is one command, so that leaving it out leaves out nothing else."""
    return len(block.commands) == 1


def test_links_work_on_the_package_index() -> None:
    """As the package index shows README, every link and picture is absolute: a relative one would lead nowhere there.

    In the repository they are relative, so that a branch, a fork and a checkout show their own files.
    """
    specification = importlib.util.spec_from_file_location("setup", ROOT / "setup.py")
    assert specification is not None
    assert specification.loader is not None
    setup = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(setup)
    assert PYPROJECT["project"]["urls"]["Source"] == REPOSITORY
    shown = setup.readme(README, REPOSITORY, "1.2.3")
    targets = re.findall(r"\]\(([^)\s]+)\)", shown)
    assert len(targets) > 30
    assert [target for target in targets if not target.startswith("https://")] == []
    ours = [target for target in targets if target.startswith((f"{REPOSITORY}/blob/", f"{REPOSITORY}/raw/"))]
    assert len(ours) > 30
    assert [target for target in ours if "/v1.2.3/" not in target] == []
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", shown)
    known = (f"{REPOSITORY}/raw/", f"{REPOSITORY}/actions/", "https://img.shields.io/")
    assert [picture for picture in pictures if not picture.startswith(known)] == []


def test_the_first_screen_says_what_it_is() -> None:
    """Before the first section there are badges, two sentences, one block to paste, and a picture."""
    first = README.partition("\n## ")[0]
    assert len(re.findall(r"^\[!\[", first, re.MULTILINE)) == 3
    assert first.count("```sh") == 1
    assert re.search(r"^!\[.+\]\(docs/images/", first, re.MULTILINE)
    assert len(first.splitlines()) < 30
