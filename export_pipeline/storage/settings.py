"""How a store is reached: the options that source, staging, quarantine and the ``files`` subscriber share."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from export_pipeline.secrets import EnvRef, resolve

Secret = str | EnvRef
"""A field of this type takes repr=False."""


class StoreSettings(BaseModel):
    """Options for S3, by boto3's names; what is not given comes from boto3's usual chain.

    The names are those of dagster-aws's ``S3Resource``. Google and Azure take theirs from the environment
    variables of obstore (``GOOGLE_…``, ``AZURE_…``) and share the retries and ``verify`` only.
    """

    # hide_input_in_errors: a validation error must not show a secret written at the wrong place.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    region_name: str | None = Field(default=None, description="AWS region of the bucket; found out where not given.")
    endpoint_url: str | None = Field(
        default=None,
        description="URL of an S3-compatible server, such as http://127.0.0.1:9000. AWS itself by default.",
    )
    profile_name: str | None = Field(default=None, description="Profile of ~/.aws/config to log in with.")
    role_arn: str | None = Field(default=None, description="ARN of an IAM role to assume with the credentials found.")
    role_external_id: str | None = Field(default=None, description="External id that the role's trust policy demands.")
    aws_access_key_id: Secret | None = Field(
        default=None, repr=False, description="AWS access key id, or {env: NAME}. From boto3's usual chain by default."
    )
    aws_secret_access_key: Secret | None = Field(
        default=None, repr=False, description="AWS secret access key, as {env: NAME}."
    )
    aws_session_token: Secret | None = Field(
        default=None, repr=False, description="Session token of temporary AWS credentials, as {env: NAME}."
    )
    use_unsigned_session: bool = Field(default=False, description="Send no credentials, as public buckets allow.")
    use_ssl: bool = Field(default=True, description="HTTPS where endpoint_url does not say otherwise.")
    verify: bool | str | None = Field(
        default=None, description="Check TLS certificates: true by default, false, or the path of a CA bundle (PEM)."
    )
    max_attempts: int = Field(
        default=3, ge=1, le=100, description="How often one request is tried, the first time included."
    )
    retry_mode: Literal["adaptive", "standard", "legacy"] = Field(
        default="adaptive", description="botocore's retry mode for listings: adaptive slows down when S3 asks for it."
    )
    connect_timeout_seconds: float = Field(default=10, gt=0, description="Longest wait for a connection.")
    read_timeout_seconds: float = Field(
        default=60, gt=0, description="Longest silence of the store in the middle of an answer."
    )
    virtual_hosted_style: bool | None = Field(
        default=None,
        description="Put the bucket into the host name. By default on AWS only; true for stores that demand it.",
    )
    requester_pays: bool = Field(default=False, description="Agree to pay for requests to a requester-pays bucket.")

    @model_validator(mode="after")
    def _credentials_are_whole(self) -> Self:
        if (self.aws_access_key_id is None) != (self.aws_secret_access_key is None):
            raise ValueError("aws_access_key_id and aws_secret_access_key come together: one of them is missing")
        if self.aws_session_token is not None and self.aws_access_key_id is None:
            raise ValueError(
                "aws_session_token goes with aws_access_key_id and aws_secret_access_key, which are missing"
            )
        return self

    def secrets(self) -> list[str]:
        """The values that must appear in no text.

        Raises:
            ConfigurationError: a named environment variable is not set.
        """
        values = (self.aws_access_key_id, self.aws_secret_access_key, self.aws_session_token)
        return [plain for plain in map(resolve, values) if plain]
