"""The one part of the metadata that pyproject.toml cannot express: README.md as a package index shows it.

The README links to files next to it. A package index does not have them, so each link gets the URL of that file in the
repository, at the tag of this version.
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
# The end of [text](target) and ![text](target), if the target is neither a URL nor an anchor on the same page. The text
# before it may contain brackets: a badge is an image inside a link.
_LINK = re.compile(r"\]\((?![a-z]+:|#)(?P<target>[^)\s]+)\)")
_PICTURES = (".gif", ".jpg", ".png", ".svg")


def readme(text: str, repository: str, version: str) -> str:
    """*text* with absolute links.

    Args:
        repository: its URL on GitHub.
        version: the links point to its tag.
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
