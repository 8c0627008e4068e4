"""A server that looks at permissions: moto's, with its enforcement of IAM policies."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import httpx2

from export_pipeline_tests.servers.s3 import S3Server


class GuardedServer:
    """Denies everything except what a user's policy allows, while :meth:`enforce` is on.

    Args:
        server: moto's, which nobody else uses meanwhile.
    """

    def __init__(self, server: S3Server) -> None:
        self.server = server
        self.enforce(False)

    def enforce(self, does: bool) -> None:
        count = b"0" if does else b"inf"
        assert httpx2.post(f"{self.server.url}/moto-api/reset-auth", content=count).status_code == 200

    def login(self, policy: Mapping[str, Any]) -> dict[str, str]:
        """The keys of a new user who has this policy and no other."""
        import boto3

        self.enforce(False)
        iam: Any = boto3.session.Session().client("iam", **self.server.options)
        name = f"user-{uuid4().hex[:12]}"
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=json.dumps(as_moto_has_it(policy)))
        made = iam.create_access_key(UserName=name)["AccessKey"]
        return {"aws_access_key_id": made["AccessKeyId"], "aws_secret_access_key": made["SecretAccessKey"]}


def allowing(actions: Sequence[str]) -> dict[str, Any]:
    """A policy that allows these actions everywhere."""
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]}


def as_moto_has_it(policy: Mapping[str, Any]) -> dict[str, Any]:
    """*policy*, with a permission that AWS does not know and moto asks for: sqs:DeleteMessageBatch."""
    made: dict[str, Any] = json.loads(json.dumps(policy))
    for statement in made["Statement"]:
        if "sqs:DeleteMessage" in statement["Action"]:
            statement["Action"] = [*statement["Action"], "sqs:DeleteMessageBatch"]
    return made
