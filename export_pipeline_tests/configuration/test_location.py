"""Which file a deployment's name means."""

from collections.abc import Callable
from pathlib import Path

import pytest

from export_pipeline.cli.outline import load_outline
from export_pipeline.configuration.location import locate
from export_pipeline.deployment import load_deployment
from export_pipeline.errors import ConfigurationError
from export_pipeline.ledger import sources
from export_pipeline.ledger.database import Ledger

CHECKOUT = Path(__file__).parents[2]
MINIMAL = "source: {url: here}\n"


def write(path: Path, text: str = MINIMAL) -> Path:
    """A deployment file at *path*."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_name_is_a_file_of_the_working_folder(folder: Path) -> None:
    """EXPORT_DEPLOYMENT=staging_area reads deployments/staging_area.yaml."""
    write(folder / "deployments" / "staging_area.yaml")
    deployment = load_deployment(environ={"EXPORT_DEPLOYMENT": "staging_area"})
    assert (deployment.name, deployment.source.url) == ("staging_area", "here")
    assert deployment.path == Path("deployments/staging_area.yaml")


def test_the_working_folder_wins_over_the_checkout(folder: Path) -> None:
    """The user's own deployments/local.yaml replaces the shipped one."""
    write(folder / "deployments" / "local.yaml")
    assert load_deployment(environ={}).source.url == "here"


def test_a_name_is_found_beside_the_package() -> None:
    """Started from another folder, the deployments of the checkout are still found."""
    assert locate("production").path == CHECKOUT / "deployments" / "production.yaml"


def test_the_only_file_is_taken(folder: Path) -> None:
    """Where no deployment is named and deployments/ holds one file, it is that one, whatever its name."""
    write(folder / "deployments" / "mine.yml")
    write(folder / "deployments" / "docker" / "export.yaml")
    found = load_deployment(environ={})
    assert (found.name, found.path) == ("mine", Path("deployments/mine.yml"))
    write(folder / "deployments" / "local.yaml", "source: {url: elsewhere}\n")
    assert load_deployment(environ={}).name == "local"


def test_of_several_files_none_is_guessed(folder: Path) -> None:
    """Where no deployment is named and there are several, the error names them and how to choose one."""
    write(folder / "deployments" / "web.yaml")
    write(folder / "deployments" / "app.yaml")
    with pytest.raises(ConfigurationError) as raised:
        load_deployment(environ={})
    assert f"deployments/ in {folder} has several deployments, and none is selected" in str(raised.value)
    assert "one of app, web: export EXPORT_DEPLOYMENT=app, or --deployment app" in str(raised.value)


@pytest.mark.parametrize("load", [load_deployment, load_outline])
def test_in_a_wrong_folder_nothing_is_configured(folder: Path, load: Callable[..., object]) -> None:
    """In a folder without deployments the error says so, and what to do; the checkout's demo is not meant."""
    with pytest.raises(ConfigurationError) as raised:
        load(environ={})
    text = str(raised.value)
    assert text.startswith(f"nothing is configured in {folder}: it has no deployment file in deployments/.")
    for way in ("`export-pipeline init`", "`export-pipeline demo`", "--deployment or EXPORT_DEPLOYMENT"):
        assert way in text


def test_the_demo_outside_of_a_checkout_is_that_of_the_checkout() -> None:
    """The deployment file that the demo writes is what deployments/local.yaml shows."""
    embedded = CHECKOUT / "export_pipeline" / "configuration" / "local.yaml"
    assert embedded.read_bytes() == (CHECKOUT / "deployments" / "local.yaml").read_bytes()


@pytest.mark.parametrize("given", ["sub/mine.yaml", "./sub/mine.yaml", "mine.yml"])
def test_a_path_is_taken_as_it_is(folder: Path, given: str) -> None:
    """Anything with a slash, or that ends in .yaml or .yml, is a path, relative to the working folder."""
    write(folder / given)
    deployment = load_deployment(given, {})
    assert (deployment.name, deployment.path) == ("mine", Path(given))


def test_an_absolute_path(folder: Path) -> None:
    """A path may be absolute."""
    assert load_deployment(environ={"EXPORT_DEPLOYMENT": str(write(folder / "mine.yaml"))}).name == "mine"


def test_an_unknown_name_lists_those_that_exist(folder: Path) -> None:
    """A misspelt name is answered with the names that there are, of the working folder and the checkout."""
    write(folder / "deployments" / "mine.yaml")
    with pytest.raises(
        ConfigurationError,
        match=r"no deployment 'mime'.*one of the names local, mine, notified, production, or the path",
    ):
        load_deployment("mime", {})


def test_a_name_where_there_are_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a checkout, in a folder without deployments, an unknown name is answered with the way to make one."""
    monkeypatch.setattr("export_pipeline.configuration.location._folders", lambda: iter([Path("deployments")]))
    with pytest.raises(ConfigurationError, match=rf"no deployment 'local'.*{folder}/deployments has no"):
        load_deployment("local", {})


def test_a_path_that_does_not_exist() -> None:
    """A wrong path says so, and what EXPORT_DEPLOYMENT may be."""
    with pytest.raises(ConfigurationError, match=r"^a/b\.yaml does not exist; EXPORT_DEPLOYMENT is"):
        load_deployment("a/b.yaml", {})


def test_a_folder_is_no_deployment(folder: Path) -> None:
    """A path that names a folder says so."""
    (folder / "a").mkdir()
    with pytest.raises(ConfigurationError, match=r"^\./a is a folder; "):
        load_deployment("./a", {})


def test_an_empty_variable_means_the_default(folder: Path) -> None:
    """EXPORT_DEPLOYMENT= is the same as leaving it unset."""
    write(folder / "deployments" / "local.yaml")
    assert load_deployment(environ={"EXPORT_DEPLOYMENT": ""}).name == "local"


def test_errors_name_a_file_by_its_path_from_the_working_folder(folder: Path) -> None:
    """A file below the working folder is named relative to it, however it was given."""
    path = write(folder / "deployments" / "mine.yaml", "sauce: 1\n")
    with pytest.raises(ConfigurationError, match=r"^deployments/mine\.yaml:1: sauce: unknown key"):
        load_deployment(str(path), {})


@pytest.mark.parametrize(
    ("file", "root"),
    [
        ("deployments/mine.yaml", "."),
        ("deployments/docker/export.yaml", "."),
        ("elsewhere/mine.yaml", "elsewhere"),
        ("mine.yaml", "."),
    ],
)
def test_relative_places_belong_to_the_deployment(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str, root: str
) -> None:
    """Relative places start at the folder that holds deployments/, or at the file's own, whatever the working folder
    is: ledger, staging, quarantine, source, and the folders of subscribers; also those that a variable names.
    """
    write(
        folder / file,
        "source: {url: bucket}\nstaging: {url: 'file:staged'}\nledger: {url: {env: RELATIVE_LEDGER}}\n"
        "subscribers:\n  copy: {type: files, url: ../copies}\n  far: {type: files, url: 's3://acme/copies'}\n",
    )
    (tmp_path / "another").mkdir()
    monkeypatch.chdir(tmp_path / "another")
    monkeypatch.setenv("RELATIVE_LEDGER", "sqlite:///kept/export.db")
    found, start = load_deployment(str(folder / file)), folder / root
    assert found.source.url == str(start / "bucket")
    assert found.staging.url == str(start / "staged")
    assert found.quarantine.url == str(start / ".dagster" / "quarantine")
    assert found.ledger.url == str(start / "kept" / "export.db")
    assert found.subscribers["copy"].options["url"] == str(start.parent.resolve() / "copies")
    assert found.subscribers["far"].options["url"] == "s3://acme/copies"
    outline = load_outline(str(folder / file))
    assert (outline.ledger_url, outline.source.url) == (found.ledger.url, found.source.url)


def test_places_of_the_deployment_in_the_working_folder_stay_as_written(folder: Path) -> None:
    """Where the working folder is the deployment's, paths are shown as the file has them."""
    write(folder / "deployments" / "mine.yaml")
    found = load_deployment("mine", {})
    assert (found.source.url, found.ledger.url) == ("here", ".dagster/export.db")


def test_a_subscriber_that_writes_into_the_working_folder_by_default_needs_a_path(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where it would depend on the working folder which database is written to, the file has to say which."""
    file = write(folder / "mine.yaml", MINIMAL + "subscribers:\n  dwh: {type: warehouse, destination: duckdb}\n")
    assert load_deployment("mine.yaml", {}).subscribers["dwh"].type_name == "warehouse"
    monkeypatch.chdir(tmp_path)
    if folder == tmp_path:
        monkeypatch.chdir("/")
    with pytest.raises(
        ConfigurationError, match=r"mine\.yaml:3: subscribers\.dwh\.url: this key is missing, and its default"
    ):
        load_deployment(str(file), {})


@pytest.mark.parametrize("load", [load_deployment, load_outline])
def test_no_second_ledger_is_begun_without_a_word(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, load: Callable[[str], object]
) -> None:
    """If the working folder has a ledger of this source and the deployment's folder has none, loading refuses and says
    what to set; a ledger of another source, or one in the deployment's folder, does not matter.
    """
    file = write(folder / "mine.yaml", "source: {url: 's3://acme/events/'}\n")
    working = tmp_path / "working"
    (working / ".dagster").mkdir(parents=True)
    monkeypatch.chdir(working)
    ledger = Ledger(".dagster/export.db")
    with ledger.write() as tx:
        sources.add_source(tx, "s3://other/events")
    load(str(file))
    with ledger.write() as tx:
        sources.add_source(tx, "s3://acme/events")
    ledger.close()
    with pytest.raises(ConfigurationError) as raised:
        load(str(file))
    text = str(raised.value)
    assert f"{working}/.dagster/export.db is a ledger of this source" in text
    assert f"move that ledger to {folder}/.dagster/export.db" in text
    (folder / ".dagster").mkdir()
    Ledger(str(folder / ".dagster" / "export.db")).close()
    load(str(file))
