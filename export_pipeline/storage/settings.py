"""How to reach a store: every option is declared here, once.

Source, staging and quarantine take :class:`StoreSettings` in a deployment file. Their Dagster resources and the
``files`` subscriber take the same options as ``subscribers.store_options.StoreFields``; AWS's other services take the
login.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from export_pipeline.secrets import EnvRef, resolve

Secret = str | EnvRef
"""A field of this type needs repr=False."""

_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")


class LoginOptions(BaseModel):
    """Where to reach AWS, or a server that speaks its protocol, and how to log in; named as in boto3."""

    region_name: str | None = Field(
        default=None,
        description="AWS region. Default: from boto3's usual chain; a bucket's region is detected.",
    )
    endpoint_url: str | None = Field(
        default=None,
        description="URL of another server that speaks AWS's protocol, such as http://127.0.0.1:9000, or of a VPC "
        "endpoint. Default: AWS itself.",
    )
    profile_name: str | None = Field(default=None, description="Profile of ~/.aws/config to log in with.")
    role_arn: str | None = Field(default=None, description="ARN of an IAM role to assume with the credentials found.")
    role_external_id: str | None = Field(default=None, description="External id that the role's trust policy requires.")

    @model_validator(mode="after")
    def _login_is_whole(self) -> Self:
        given = {name for name in _KEYS if getattr(self, name, None) is not None}
        if len(given & {*_KEYS[:2]}) == 1:
            raise ValueError("aws_access_key_id and aws_secret_access_key must be set together; one of them is missing")
        if given == {_KEYS[2]}:
            raise ValueError(
                "aws_session_token requires aws_access_key_id and aws_secret_access_key, which are missing"
            )
        if self.role_external_id is not None and self.role_arn is None:
            raise ValueError("role_external_id requires role_arn, which is missing")
        return self


class StoreOptions(LoginOptions):
    """How to reach a store, except for secrets.

    The names are those of dagster-aws's ``S3Resource``; defaults come from boto3's usual chain. Google and Azure take
    their credentials from obstore's environment variables (``GOOGLE_…``, ``AZURE_…``), and of these options only
    ``endpoint_url``, ``use_unsigned_session``, ``verify``, retries and timeouts.
    """

    use_unsigned_session: bool = Field(default=False, description="Send no credentials, for public buckets.")
    use_ssl: bool = Field(default=True, description="Use HTTPS, unless endpoint_url says otherwise.")
    max_attempts: int = Field(
        default=3, ge=1, le=100, description="How often a request is attempted, including the first attempt."
    )
    retry_mode: Literal["adaptive", "standard", "legacy"] = Field(
        default="adaptive", description="botocore's retry mode for listings: adaptive slows down when S3 throttles."
    )
    connect_timeout_seconds: float = Field(default=10, gt=0, description="Connection timeout, in seconds.")
    read_timeout_seconds: float = Field(
        default=60, gt=0, description="Read timeout, in seconds: longest silence in the middle of a response."
    )
    virtual_hosted_style: bool | None = Field(
        default=None,
        description="Put the bucket into the host name. Default: only for AWS; set true for stores that require it.",
    )
    requester_pays: bool = Field(default=False, description="Agree to pay for requests to a requester-pays bucket.")


class StoreSettings(StoreOptions):
    """How to reach a store, as in a deployment file: a secret may name an environment variable."""

    # hide_input_in_errors: a validation error must not show a secret written in the wrong place.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    aws_access_key_id: Secret | None = Field(
        default=None, repr=False, description="AWS access key id, or {env: NAME}. Default: from boto3's usual chain."
    )
    aws_secret_access_key: Secret | None = Field(
        default=None, repr=False, description="AWS secret access key, as {env: NAME}."
    )
    aws_session_token: Secret | None = Field(
        default=None, repr=False, description="Session token of temporary AWS credentials, as {env: NAME}."
    )
    verify: bool | str | None = Field(
        default=None, description="Verify TLS certificates: true (default), false, or the path of a CA bundle (PEM)."
    )

    def secrets(self) -> list[str]:
        """The values that must not appear in any text.

        Raises:
            ConfigurationError: a named environment variable is not set.
        """
        values: list[Secret | None] = [getattr(self, name) for name in _KEYS]
        return [plain for plain in map(resolve, values) if plain]
