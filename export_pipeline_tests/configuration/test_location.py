"""Which file a deployment's name means."""

from pathlib import Path

import pytest

from export_pipeline.configuration.location import locate
from export_pipeline.deployment import load_deployment
from export_pipeline.errors import ConfigurationError

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
    """A deployments/local.yaml of one's own replaces the shipped one."""
    write(folder / "deployments" / "local.yaml")
    assert load_deployment(environ={}).source.url == "here"


def test_a_name_is_found_beside_the_package() -> None:
    """Started from another folder, the deployments of the checkout are still found."""
    assert locate("production").path == CHECKOUT / "deployments" / "production.yaml"


def test_local_is_embedded(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Without any deployments folder the default that the package brings serves."""
    monkeypatch.setattr("export_pipeline.configuration.location._folders", lambda: iter([folder / "deployments"]))
    deployment = load_deployment(environ={})
    assert (deployment.name, deployment.source.url) == ("local", ".demo/bucket")


def test_the_embedded_default_is_the_one_in_the_checkout() -> None:
    """What runs without a checkout is what deployments/local.yaml shows."""
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
