"""The one error type.

Every input we refuse is refused in the same shape: which file, which record in it, what was
wrong, and what to do about it. The command line prints it as one line and exits with status 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ModernPubMedError(Exception):
    """A bad input, with the file, the place in it, the cause and the remedy.

    Args:
        cause: What was wrong, in one clause.
        file: The file or folder it was found in, where there is one.
        record: The place in that file: a PMID, a line number, a key.
        remedy: What the user can do about it.

    >>> str(ModernPubMedError("no PMID", file="a.xml", record="article 3", remedy="fetch it again"))
    'a.xml: article 3: no PMID. Remedy: fetch it again.'
    """

    def __init__(
        self,
        cause: str,
        *,
        file: str | Path | None = None,
        record: str | int | None = None,
        remedy: str | None = None,
    ) -> None:
        self.cause = _one_line(cause)
        self.file = None if file is None else str(file)
        self.record = None if record is None else _one_line(str(record))
        self.remedy = None if remedy is None else _one_line(remedy)
        place = "".join(f"{part}: " for part in (self.file, self.record) if part is not None)
        advice = "" if self.remedy is None else f" Remedy: {self.remedy}."
        super().__init__(f"{place}{self.cause}.{advice}")

    def parts(self) -> dict[str, str | None]:
        """What it was made of: what another process or machine can send, and make it of again.

        >>> error = ModernPubMedError("no PMID", file="a.xml", remedy="fetch it again")
        >>> str(ModernPubMedError(**error.parts())) == str(error)
        True
        """
        return {
            "cause": self.cause,
            "file": self.file,
            "record": self.record,
            "remedy": self.remedy,
        }


class MissingExtraError(ModernPubMedError):
    """A feature whose libraries are not installed; names the extra that brings them.

    >>> str(MissingExtraError("train", "training"))
    "training needs the extra 'train'. Remedy: pip install 'modernpubmed[train]'."
    """

    def __init__(self, extra: str, feature: str) -> None:
        self.extra = extra
        super().__init__(
            f"{feature} needs the extra '{extra}'",
            remedy=f"pip install 'modernpubmed[{extra}]'",
        )


@contextmanager
def needs_extra(extra: str, feature: str) -> Iterator[None]:
    """Turns a missing library inside the block into a ``MissingExtraError``.

    >>> with needs_extra("train", "training"):
    ...     import no_such_library
    Traceback (most recent call last):
    modernpubmed.errors.MissingExtraError: training needs the extra 'train'. Remedy: ...
    """
    try:
        yield
    except ModuleNotFoundError as error:
        # A module of ours that is missing is a bug, and must look like one.
        if (error.name or "").startswith("modernpubmed"):
            raise
        raise MissingExtraError(extra, feature) from error


def _one_line(text: str) -> str:
    # Messages of other libraries may run over several lines; ours never do.
    return " ".join(text.split()).rstrip(".")
