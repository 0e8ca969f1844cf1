"""One file from NLM: the newest updatefile, verified; for all of them see ``mirror``.

NLM publishes PubMed as a yearly baseline and daily updatefiles, each a ``.xml.gz`` with its MD5
beside it (https://pubmed.ncbi.nlm.nih.gov/download/).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import replacing
from modernpubmed.pubmed.listing import NLM, read_listing
from modernpubmed.pubmed.source import file_md5
from modernpubmed.pubmed.transfer import Client, Manners, address

#: NLM's folder of updatefiles.
UPDATEFILES = f"{NLM}updatefiles/"

#: Somebody is waiting for it: given up sooner than a mirror's files.
_MANNERS = Manners(attempts=3)


def fetch_newest_updatefile(
    folder: Path, *, base: str = UPDATEFILES, report: Callable[[int, int], None] | None = None
) -> Path:
    """The newest updatefile, in ``folder``: fetched and verified, or found there whole.

    Args:
        folder: Where to keep it, with its ``.md5``.
        base: The folder's address.
        report: Called with the bytes read so far and in all (0 if the server does not say).

    Raises:
        ModernPubMedError: The server cannot be reached, lists no updatefile, or what came does
            not match its MD5 (it is removed then).
    """
    base = address(base)
    client = Client(_MANNERS)
    page, _ = client.read(base)
    listed = read_listing(page)
    if not listed:
        raise ModernPubMedError("lists no updatefile", file=base, remedy="check the address")
    url, path = f"{base}{listed[-1].name}", folder / listed[-1].name
    published = client.published(url)
    if path.is_file() and file_md5(path) == published.md5:
        return path
    total = listed[-1].size or client.size(url) or 0
    received = 0

    def progress(count: int) -> None:
        nonlocal received
        received += count
        if report is not None:
            report(received, total)

    # In a folder of its own: two processes may want it at a time.
    with replacing(path) as temporary:
        published = client.fetch(url, temporary, published, progress)
    with replacing(path.with_name(f"{path.name}.md5")) as temporary:
        temporary.write_text(published.text, newline="")
    return path
