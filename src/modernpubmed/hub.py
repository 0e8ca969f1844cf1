"""Files of data sets on the Hugging Face hub: fetched once, kept in the hub's own cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modernpubmed.errors import ModernPubMedError


def fetch_data_set(
    name: str,
    revision: str | None,
    patterns: Sequence[str] = ("*.parquet",),
    *,
    cached: bool = False,
) -> Path:
    """The folder of a data set of the Hugging Face hub, fetched into the hub's cache.

    Args:
        name: ``owner/name``.
        revision: A branch, a tag or a whole commit; None is the main branch.
        patterns: Which files to fetch.
        cached: Take it from the cache, without the network.

    Raises:
        ModernPubMedError: The hub cannot be reached and its cache has no copy.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # A connection that breaks off half-way raises the HTTP library's own error, of which
    # HfHubHTTPError is a kind; which library that is changes with the hub's version.
    broken = [kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError"]
    failures: tuple[type[Exception], ...] = (HFValidationError, OSError, *broken)
    try:
        return Path(
            snapshot_download(
                name,
                repo_type="dataset",
                revision=revision,
                allow_patterns=list(patterns),
                local_files_only=cached,
            )
        )
    except failures as error:
        raise ModernPubMedError(
            f"not to be had from the hub, nor in its cache ({type(error).__name__})",
            file=name,
            remedy="go online, or give a local folder with the data set's files",
        ) from error
