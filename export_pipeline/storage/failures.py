"""What a store said when it failed, in one short line without secrets."""

import re

from export_pipeline.printable import printable

_MAX_CHARACTERS = 500
# A query may hold a signature (presigned URLs, Azure's SAS tokens); userinfo a password.
_QUERY = re.compile(r"(https?://[^\s?\"'<>)]*)\?[^\s\"'<>)]*")
_USERINFO = re.compile(r"(https?://)[^/\s@\"']+@")
_SECRET_ELEMENTS = re.compile(
    r"<(AWSAccessKeyId|SignatureProvided|StringToSign\w*|CanonicalRequest\w*|X-Amz-Security-Token)>.*?</\1>", re.DOTALL
)


def brief(error: BaseException) -> str:
    """The message of an error of obstore, botocore or the operating system, on one line of at most 500 characters."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # obstore appends the whole tree of Rust structs; its first part says it all.
    text = str(error).partition("\n\nDebug source:")[0]
    text = _SECRET_ELEMENTS.sub(r"<\1>…</\1>", text)
    text = _USERINFO.sub(r"\1", _QUERY.sub(r"\1?…", text))
    text = printable(" ".join(text.split())) or type(error).__name__
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "…"
