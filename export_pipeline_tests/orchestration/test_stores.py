"""The options of a store: declared once, so that each place in a store takes all of them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from export_pipeline.deployment import load_deployment
from export_pipeline.errors import ConfigurationError
from export_pipeline.orchestration.build import definitions_of
from export_pipeline.storage.settings import StoreSettings

# Each option with a value that is not its default.
OPTIONS: dict[str, Any] = {
    "region_name": "eu-central-1",
    "endpoint_url": "http://127.0.0.1:9",
    "profile_name": "export",
    "role_arn": "arn:aws:iam::123456789012:role/export",
    "role_external_id": "e-1",
    "aws_access_key_id": {"env": "TEST_KEY_ID"},
    "aws_secret_access_key": {"env": "TEST_SECRET"},
    "aws_session_token": {"env": "TEST_TOKEN"},
    "use_unsigned_session": True,
    "use_ssl": False,
    "verify": False,
    "max_attempts": 7,
    "retry_mode": "standard",
    "connect_timeout_seconds": 3.0,
    "read_timeout_seconds": 4.0,
    "virtual_hosted_style": True,
    "requester_pays": True,
}
SECRETS = {"TEST_KEY_ID": "AKIA", "TEST_SECRET": "s", "TEST_TOKEN": "t"}


def deployment_with(folder: Path, **options: Any) -> Path:
    path = folder / "stores.yaml"
    bucket = options.pop("bucket")
    place = {"url": f"{bucket}/a", **options}
    path.write_text(
        yaml.safe_dump(
            {
                "source": {**place, "url": f"{bucket}/raw"},
                "staging": place,
                "quarantine": {**place, "url": f"{bucket}/q"},
                "ledger": {"url": str(folder / "ledger.db")},
                "subscribers": {"archive": {"type": "files", **place, "url": f"{bucket}/archive"}},
            }
        )
    )
    return path


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def test_the_table_has_every_option() -> None:
    """An option that is added to StoreSettings is tried here as well."""
    assert OPTIONS.keys() == StoreSettings.model_fields.keys()


@pytest.mark.parametrize("bucket", ["s3://acme", "gs://acme"])
@pytest.mark.parametrize("place", ["source", "staging", "quarantine", "archive"])
def test_every_place_in_a_store_takes_every_option(tmp_path: Path, place: str, bucket: str) -> None:
    """The store options of the deployment file reach everything that opens it, in a run by Dagster, too."""
    definitions = definitions_of(load_deployment(str(deployment_with(tmp_path, bucket=bucket, **OPTIONS))))
    resource: Any = (definitions.resources or {})[place]
    with resource.process_config_and_initialize_cm() as opened:
        settings = opened.store_settings()
    wanted = {name: SECRETS[value["env"]] if isinstance(value, dict) else value for name, value in OPTIONS.items()}
    assert {name: getattr(settings, name) for name in OPTIONS} == wanted


@pytest.mark.parametrize("bundle", ["/etc/ssl/ca.pem", True])
def test_verify_is_a_truth_value_or_a_path(tmp_path: Path, bundle: object) -> None:
    """verify: takes true, false or the path of a bundle, in a run as in the file."""
    resources = definitions_of(
        load_deployment(str(deployment_with(tmp_path, bucket="s3://acme", verify=bundle)))
    ).resources
    for place in ("source", "archive"):
        resource: Any = (resources or {})[place]
        assert resource.store_settings().verify == bundle


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"verify": 3}, "verify"),
        ({"aws_session_token": {"env": "TEST_TOKEN"}}, "aws_session_token requires"),
        ({"aws_access_key_id": {"env": "TEST_KEY_ID"}}, "must be set together"),
        ({"role_external_id": "e-1"}, "role_external_id requires role_arn"),
    ],
)
@pytest.mark.parametrize("place", ["source", "archive"])
def test_options_that_make_no_sense_are_refused_when_the_file_is_read(
    tmp_path: Path, place: str, options: dict[str, Any], told: str
) -> None:
    """A file with half a login, or something that cannot be, is refused with the place of it."""
    path = deployment_with(tmp_path, bucket="s3://acme")
    document = yaml.safe_load(path.read_text())
    (document["source"] if place == "source" else document["subscribers"]["archive"]).update(options)
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigurationError, match=told) as caught:
        load_deployment(str(path))
    assert place in str(caught.value)
