"""Logs in to S3: one boto3 session serves both boto3's client and obstore."""

import re
from datetime import timedelta
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, cast

from export_pipeline.errors import ConfigurationError
from export_pipeline.secrets import resolve
from export_pipeline.storage.location import Location
from export_pipeline.storage.settings import StoreSettings

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_s3 import S3Client
    from obstore.store import S3Config, S3CredentialProvider

_ACCESS_POINT = re.compile(r"^arn:(?P<partition>[^:]+):s3:(?P<region>[^:]+):(?P<account>\d+):accesspoint/(?P<name>.+)$")
_DOMAINS = {"aws-cn": "amazonaws.com.cn"}
_POOLED_CONNECTIONS = 32

# botocore renews temporary credentials at least ten minutes before they expire: what it returns is valid that long.
CREDENTIALS_LIVE = timedelta(minutes=10)


class AwsLogin:
    """Session, client and obstore configuration for one bucket. Nothing is loaded or requested before it is used.

    Args:
        location: of scheme ``s3``.
        settings: what is missing comes from boto3's chain: environment, profile, container, instance.
    """

    def __init__(self, location: Location, settings: StoreSettings) -> None:
        self.bucket = location.bucket
        self._settings = settings

    @property
    def is_express(self) -> bool:
        """Whether it is a directory bucket of S3 Express One Zone: lists in any order, without start-after."""
        return self.bucket.endswith("--x-s3")

    @cached_property
    def session(self) -> "boto3.Session":
        """The boto3 session, from :func:`open_session`."""
        return open_session(self._settings)

    @cached_property
    def client(self) -> "S3Client":
        """A client as boto3 creates it, with this package's retries and timeouts, but without file transfers.

        Importing these would take a third of the time until the first request.
        """
        from botocore.config import Config

        settings = self._settings
        config = self._config()
        if settings.virtual_hosted_style is not None or settings.endpoint_url:
            config["s3"] = {"addressing_style": "virtual" if settings.virtual_hosted_style else "path"}
        access_point = _ACCESS_POINT.match(self.bucket)
        client: Any = self.session._session.create_client(
            "s3",
            region_name=access_point["region"] if access_point else None,
            endpoint_url=settings.endpoint_url,
            use_ssl=settings.use_ssl,
            verify=settings.verify,
            config=Config(**config),
        )
        return cast("S3Client", client)

    def queue_client(self, endpoint_url: str, region_name: str | None) -> Any:
        """An SQS client with the same login, retries and timeouts; the caller closes it.

        Args:
            region_name: None: the settings' region, or the one that boto3 finds.
        """
        from botocore.config import Config

        settings = self._settings
        region = region_name or settings.region_name or self.session.region_name or "us-east-1"
        return self.session._session.create_client(
            "sqs",
            region_name=region,
            endpoint_url=endpoint_url,
            use_ssl=settings.use_ssl,
            verify=settings.verify,
            config=Config(**self._config()),
        )

    def _config(self) -> dict[str, Any]:
        from botocore import UNSIGNED

        settings = self._settings
        config: dict[str, Any] = {
            "retries": {"mode": settings.retry_mode, "total_max_attempts": settings.max_attempts},
            "connect_timeout": settings.connect_timeout_seconds,
            "read_timeout": settings.read_timeout_seconds,
            "max_pool_connections": _POOLED_CONNECTIONS,
            # Stores other than AWS often support no checksums beyond MD5.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
        if settings.use_unsigned_session:
            config["signature_version"] = UNSIGNED
        return config

    def obstore_config(self) -> "tuple[S3Config, S3CredentialProvider | None]":
        """Bucket, address and region for obstore's S3Store, and its credential provider.

        If the settings do not name the region, AWS is asked for it (one request): boto3 follows a bucket to its region,
        obstore does not.

        Raises:
            ConfigurationError: boto3's chain finds no credentials.
        """
        settings = self._settings
        config: S3Config = {"bucket": self.bucket}
        endpoint = settings.endpoint_url or self._configured_endpoint()
        virtual = bool(settings.virtual_hosted_style)
        if match := _ACCESS_POINT.match(self.bucket):
            # An access point has its own host name; the bucket's name is not part of any request.
            domain = _DOMAINS.get(match["partition"], "amazonaws.com")
            host = f"{match['name']}-{match['account']}.s3-accesspoint.{match['region']}.{domain}"
            config.update({"bucket": match["name"], "region": match["region"]})
            endpoint, virtual = f"https://{host}", True
        elif endpoint:
            config["region"] = settings.region_name or self.session.region_name or "us-east-1"
            if virtual:
                scheme, _, host = endpoint.partition("://")
                endpoint = f"{scheme}://{self.bucket}.{host}"
        else:
            config["region"] = settings.region_name or self._region_of_bucket()
            virtual = settings.virtual_hosted_style is not False and "." not in self.bucket
        if endpoint:
            # Under both names: obstore would prefer the environment's AWS_ENDPOINT_URL_S3 to the first.
            config["endpoint"] = config["aws_endpoint_url_s3"] = endpoint.rstrip("/")
        config["virtual_hosted_style_request"] = virtual
        if self.is_express:
            config["s3_express"] = True
        if settings.requester_pays:
            config["request_payer"] = True
        if settings.use_unsigned_session:
            config["skip_signature"] = True
            return config, None
        return config, self._credential_provider()

    def _credential_provider(self) -> "S3CredentialProvider":
        from obstore.auth.boto3 import Boto3CredentialProvider

        if self.session.get_credentials() is None:
            raise ConfigurationError(
                "no AWS credentials found: set aws_access_key_id and aws_secret_access_key, a profile_name, or "
                "another source that boto3 supports; for a public bucket, set use_unsigned_session"
            )
        return Boto3CredentialProvider(self.session, ttl=CREDENTIALS_LIVE)

    def _configured_endpoint(self) -> str | None:
        """The endpoint for S3 in the environment or profile; boto3 and obstore use different names for it."""
        endpoint = self.client.meta.endpoint_url
        return None if re.match(r"https?://[a-z0-9.-]+\.amazonaws\.com(\.cn)?/?$", endpoint) else endpoint

    def _region_of_bucket(self) -> str:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: Any = self.client.head_bucket(Bucket=self.bucket)
        except ClientError as error:
            answer = error.response
        except BotoCoreError:
            answer = {}
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return headers.get("x-amz-bucket-region") or self.session.region_name or "us-east-1"


def open_session(settings: StoreSettings) -> "boto3.Session":
    """A boto3 session; with ``role_arn``, of the assumed role.

    Raises:
        ConfigurationError: the profile does not exist.
    """
    import boto3
    from botocore.exceptions import ProfileNotFound

    try:
        session = boto3.Session(
            botocore_session=_new_session(settings.profile_name),
            aws_access_key_id=resolve(settings.aws_access_key_id),
            aws_secret_access_key=resolve(settings.aws_secret_access_key),
            aws_session_token=resolve(settings.aws_session_token),
            region_name=settings.region_name,
        )
    except ProfileNotFound as error:
        raise ConfigurationError(f"profile_name: {error}") from None
    return _assume_role(session, settings.role_arn, settings.role_external_id) if settings.role_arn else session


def _new_session(profile_name: str | None = None) -> Any:
    """A botocore session that shares botocore's service descriptions with all others of this process.

    Otherwise each session parses them again, which is most of the CPU time of creating a client.

    Raises:
        ProfileNotFound: the profile does not exist.
    """
    from botocore.session import Session

    session = Session(profile=profile_name)
    loader = _loader(session.get_config_variable("data_path"))
    # Every boto3 session appends the same folder to these paths, which would grow without end.
    loader.search_paths[:] = dict.fromkeys(loader.search_paths)
    session.register_component("data_loader", loader)
    return session


@cache
def _loader(data_path: str | None) -> Any:
    from botocore.loaders import create_loader

    return create_loader(data_path)


def _assume_role(session: "boto3.Session", role_arn: str, external_id: str | None) -> "boto3.Session":
    import boto3
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

    extra = {"RoleSessionName": "export-pipeline"}
    if external_id:
        extra["ExternalId"] = external_id
    base = session._session
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=base.create_client,
        source_credentials=session.get_credentials(),
        role_arn=role_arn,
        extra_args=extra,
    )
    # botocore has no public way to set self-renewing credentials.
    assumed = _new_session()
    assumed._credentials = DeferredRefreshableCredentials(refresh_using=fetcher.fetch_credentials, method="assume-role")
    return boto3.Session(botocore_session=assumed, region_name=session.region_name)
