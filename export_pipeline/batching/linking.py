"""One file under two names, so that its bytes are not written twice."""

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Made:
    """What a folder gives to the files that are made in it.

    Attributes:
        device, user, group: as numbers.
        mode: permissions.
        attributes: extended ones, such as access control lists.
    """

    device: int
    user: int
    group: int
    mode: int
    attributes: dict[str, bytes]

    @classmethod
    def of(cls, file: int | str) -> "Made | None":
        """As the file of this descriptor or path has it; None where Python cannot tell all of it."""
        found = os.stat(file)
        try:
            attributes = {name: os.getxattr(file, name) for name in os.listxattr(file)}
        except (AttributeError, OSError):
            return None  # not every operating system, and not every file system, has such attributes
        return cls(found.st_dev, found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), attributes)


def link(file: str, path: str, *, like: Made | None, beside: str) -> bool:
    """Make *path* a second name of *file*, in one step and in place of what was there; say whether that was done.

    It is not where *file* has a second name already: so what somebody does to one delivered file never changes another.
    Who changes a delivered file in place changes *file* too: its check sum tells, and it is read again.

    Args:
        file: has no name that anybody but us knows. It gets the permissions of *like*.
        like: what a file has that is made where *path* is. Nothing is done where *file* has other attributes.
        beside: a name in the folder of *path* that is free.
    """
    own = Made.of(file)
    if like is None or own is None or replace(own, mode=like.mode) != like:
        return False
    try:
        os.link(file, beside)
    except OSError:
        return False  # not every file system has links
    try:
        # Looked at afterwards: somebody else may have had the same thought at the same time.
        if os.stat(beside).st_nlink != 2:
            return False
        if own.mode != like.mode:
            os.chmod(beside, like.mode)
        os.rename(beside, path)
        return True
    finally:
        with suppress(FileNotFoundError):
            os.unlink(beside)
