"""The one part of the metadata that pyproject.toml cannot say: README.md as a package index shows it.

Links of the README lead to files beside it. On a page of a package index there are none, so each gets the address of
that file in the repository, as it was at this version.
"""

import re
import sys
from pathlib import Path

from setuptools import setup

if sys.version_info >= (3, 11):
    import tomllib
else:
    from setuptools.compat.py310 import tomllib

ROOT = Path(__file__).parent
# The end of [text](target) and ![text](target), where the target is neither an address nor a place on the same page.
# What comes before may hold brackets of its own: a badge is a picture inside a link.
_LINK = re.compile(r"\]\((?![a-z]+:|#)(?P<target>[^)\s]+)\)")
_PICTURES = (".gif", ".jpg", ".png", ".svg")


def readme(text: str, repository: str, version: str) -> str:
    """*text* with absolute links.

    Args:
        repository: its address on GitHub.
        version: whose tag the links lead to.
    """

    def absolute(link: "re.Match[str]") -> str:
        kind = "raw" if link["target"].endswith(_PICTURES) else "blob"
        return f"]({repository}/{kind}/v{version}/{link['target']})"

    return _LINK.sub(absolute, text)


if __name__ == "__main__":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    setup(
        long_description=readme(
            (ROOT / "README.md").read_text(encoding="utf-8"), project["urls"]["Source"], project["version"]
        ),
        long_description_content_type="text/markdown",
    )
