"""One file under two names, so that its bytes are not written twice."""

import os
import stat


def take_over(file: str, descriptor: int, path: str) -> bool:
    """Make *path* a second name of *file*, instead of the empty file that was just made there; say whether it is.

    It is not where the two would differ in more than their bytes: owner, group, or extended attributes such as access
    control lists, which a folder may give to what is made in it. Nor where *file* has a second name already: so what
    somebody does to one delivered file never changes another, and no delivered file has more than one reader's name.
    Who changes a delivered file in place changes *file* too: that is noticed by its check sum, and it is read again.

    Args:
        file: has a name nobody but us writes to. It gets the permissions of the empty file.
        descriptor: of the empty file.
        path: of the empty file.
    """
    if not hasattr(os, "listxattr"):
        return False
    made, found = os.fstat(descriptor), os.stat(file)
    if found.st_nlink != 1 or (made.st_dev, made.st_uid, made.st_gid) != (found.st_dev, found.st_uid, found.st_gid):
        return False
    beside = f"{path}.tmp"  # as unfinished as the empty file, by its name
    try:
        if _attributes(descriptor) != _attributes(file):
            return False
        os.link(file, beside)
    except OSError:
        return False  # not every file system has links, or attributes
    try:
        # Somebody else may have had the same thought at the same time.
        if os.stat(beside).st_nlink != 2:
            return False
        os.chmod(beside, stat.S_IMODE(made.st_mode))
        os.rename(beside, path)
        return True
    finally:
        if os.path.lexists(beside):
            os.unlink(beside)


def _attributes(file: int | str) -> dict[str, bytes]:
    return {name: os.getxattr(file, name) for name in os.listxattr(file)}
