"""One run at a time in a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modernpubmed.errors import ModernPubMedError


@contextmanager
def alone(folder: Path, what: str, patience: float = 0.0) -> Iterator[None]:
    """Makes the folder, and keeps a second run away from it for as long as the block takes.

    The lock is the system's, on the folder itself: it ends with the process, however that ends.

    Args:
        folder: The folder.
        what: What it is to be alone with, in an error.
        patience: Seconds to wait for another run, whose last child may be about to end.

    Raises:
        ModernPubMedError: Another run is at work in it.
    """
    import fcntl  # not on Windows, where the rest of the package runs

    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise ModernPubMedError(
                        f"another run is at work in this {what}",
                        file=folder,
                        remedy="wait until it has ended",
                    ) from error
                time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)
