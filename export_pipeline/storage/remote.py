"""An obstore store for a bucket of S3, Google or Azure."""

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from export_pipeline.errors import ConfigurationError
from export_pipeline.storage.aws import AwsLogin
from export_pipeline.storage.folders import brief
from export_pipeline.storage.location import Location
from export_pipeline.storage.settings import StoreSettings

if TYPE_CHECKING:
    from obstore.store import AzureConfig, AzureStore, ClientConfig, GCSConfig, GCSStore, RetryConfig, S3Store

# Limit for a whole request. What really ends a dead one is the silence that read_timeout_seconds allows.
_REQUEST_TIMEOUT = timedelta(hours=1)


def open_store(
    location: Location, settings: StoreSettings, login: AwsLogin | None = None
) -> "S3Store | GCSStore | AzureStore":
    """The whole bucket or container of *location*; keys are complete ones.

    Args:
        location: of scheme ``s3``, ``gs`` or ``az``.
        settings: Google's and Azure's credentials come from obstore's environment variables.
        login: for S3, an existing one.

    Raises:
        ConfigurationError: options contradict each other, or no credentials were found.
    """
    from obstore import store
    from obstore.exceptions import BaseError

    client = _client_options(settings)
    retries = _retries(settings)
    try:
        if location.scheme == "s3":
            config, provider = (login or AwsLogin(location, settings)).obstore_config()
            if config.get("endpoint", "").startswith("http://"):
                client["allow_http"] = True
            return store.S3Store(
                config=config, credential_provider=provider, client_options=client, retry_config=retries
            )
        if settings.endpoint_url and settings.endpoint_url.startswith("http://"):
            client["allow_http"] = True
        if location.scheme == "gs":
            # Otherwise objects with Content-Encoding: gzip are decompressed, and their length differs from the listing.
            client["default_headers"] = {"accept-encoding": "gzip"}
            google: GCSConfig = {"bucket": location.bucket}
            if settings.endpoint_url:
                google["base_url"] = settings.endpoint_url
            if settings.use_unsigned_session:
                google["skip_signature"] = True
            return store.GCSStore(config=google, client_options=client, retry_config=retries)
        azure: AzureConfig = {"container_name": location.bucket}
        if settings.endpoint_url:
            azure["endpoint"] = settings.endpoint_url
        if settings.use_unsigned_session:
            azure["skip_signature"] = True
        return store.AzureStore(config=azure, client_options=client, retry_config=retries)
    except (BaseError, ValueError) as error:
        raise ConfigurationError(f"{location.url}: {brief(error)}") from None


def _client_options(settings: StoreSettings) -> "ClientConfig":
    options: ClientConfig = {
        "timeout": _REQUEST_TIMEOUT,
        "connect_timeout": timedelta(seconds=settings.connect_timeout_seconds),
        "read_timeout": timedelta(seconds=settings.read_timeout_seconds),
    }
    if settings.verify is False:
        options["allow_invalid_certificates"] = True
    bundle = settings.verify if isinstance(settings.verify, str) else os.environ.get("AWS_CA_BUNDLE")
    if bundle:
        options["root_certificate"] = _read_bundle(bundle)
    return options


def _retries(settings: StoreSettings) -> "RetryConfig":
    return {
        "max_retries": settings.max_attempts - 1,
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=10),
            "base": 2,
        },
        "retry_timeout": timedelta(minutes=3),
    }


def _read_bundle(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"the CA bundle {path} (verify, or AWS_CA_BUNDLE) cannot be read: {brief(error)}"
        ) from None
