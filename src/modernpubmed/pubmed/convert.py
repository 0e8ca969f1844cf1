"""One NLM file → one folder: its articles and deletions as Parquet, and a report.

``articles.parquet`` (``ARTICLE_SCHEMA``, every article in file order, nothing brought to its
latest state), ``deletions.parquet`` (``ORDER_SCHEMA``) and ``report.json``. The folder is a pure
function of the file: the same bytes in give the same bytes out, whichever process wrote them, so
that doing a file again after a crash changes nothing. It is renamed into place when complete.

Memory does not grow with the file: a row group is written at 5,000 articles or 32 MB, whichever
comes first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from modernpubmed.articles import ARTICLES_NAME
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import replacing
from modernpubmed.pubmed.columns import to_batch
from modernpubmed.pubmed.keys import DELETIONS_NAME
from modernpubmed.pubmed.parse import ParseCounts, parse
from modernpubmed.pubmed.source import Digests, expected_md5, refuse_other_md5, verify_md5
from modernpubmed.records import Article, Deletion
from modernpubmed.schemas import ARTICLE_SCHEMA

#: Name of the report in the folder.
REPORT_NAME = "report.json"

#: Arrow schema of ``deletions.parquet``: the file's orders to delete, in its order.
ORDER_SCHEMA = pa.schema(
    [
        pa.field("pmid", pa.int64(), nullable=False),
        pa.field("version", pa.int32(), nullable=False),
    ]
)

# Articles are few at a time, while they are still in the processor's cache, and so are row groups
# of few bytes: one abstract of 50 MB makes a row group of its own.
_BATCH, _CHARACTERS = 250, 1 << 22
_ROWS, _BYTES = 5_000, 1 << 25


@dataclass(frozen=True, slots=True)
class FileReport:
    """What was read in one NLM file.

    Attributes:
        name: The file's name, without its folder.
        md5: Of its bytes, lower-case hex; ``sha256`` likewise.
        bytes: Its size.
        md5_checked: Whether ``FILE.md5`` lay beside it, and agreed.
        articles: Articles written; ``deletions`` likewise.
        books: ``PubmedBookArticle`` records skipped.
        root: The root element's name, which tells the DTD.
    """

    name: str
    md5: str
    sha256: str
    bytes: int
    md5_checked: bool
    articles: int
    deletions: int
    books: int
    root: str

    def as_dict(self) -> dict[str, Any]:
        """Its fields as JSON has them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The report of what ``as_dict`` gave; a TypeError if it is something else."""
        return cls(**values)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The report in a folder that ``convert`` wrote.

        Raises:
            ModernPubMedError: There is none, or it is not one of ours.
        """
        path = folder / REPORT_NAME
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ModernPubMedError(
                f"no readable report ({error})", file=path, remedy="remove the folder; run it again"
            ) from error


def convert(source: Path, target: Path) -> FileReport:
    """Reads the NLM file ``source`` and writes the folder ``target``.

    Args:
        source: NLM XML, gzip or plain; its bytes are checked against ``FILE.md5`` where that is.
        target: The folder; one that is there is replaced once the new one is complete.

    Raises:
        ModernPubMedError: The file is bad (see ``parse``) or differs from its checksum, or the
            folder cannot be written. What was at ``target`` is left as it was.
    """
    md5 = expected_md5(source)
    try:
        with replacing(target) as folder:
            folder.mkdir()
            report = _converted(source, folder, md5)
    except OSError as error:
        raise ModernPubMedError(
            f"cannot be written ({error.strerror or error})",
            file=target,
            remedy="check the disk's space and permissions, and run it again",
        ) from error
    return report


def _converted(source: Path, folder: Path, md5: str | None) -> FileReport:
    counts, digests = ParseCounts(), Digests()
    try:
        deletions = _write(parse(source, counts, digests), folder / ARTICLES_NAME)
    except ModernPubMedError:
        # A file that is not what NLM published is that first, whatever else is wrong with it.
        if source.is_file():
            verify_md5(source)
        raise
    if md5 is not None:
        refuse_other_md5(source, md5, digests.md5.hexdigest())
    orders = {"pmid": [d.pmid for d in deletions], "version": [d.version for d in deletions]}
    table = pa.Table.from_pydict(orders, schema=ORDER_SCHEMA)
    pq.write_table(table, folder / DELETIONS_NAME, compression="zstd")
    report = FileReport(
        name=source.name,
        md5=digests.md5.hexdigest(),
        sha256=digests.sha256.hexdigest(),
        bytes=digests.size,
        md5_checked=md5 is not None,
        articles=counts.articles,
        deletions=counts.deletions,
        books=counts.books,
        root=counts.root,
    )
    text = json.dumps(report.as_dict(), indent=2, ensure_ascii=False) + "\n"
    (folder / REPORT_NAME).write_text(text, encoding="utf-8")
    return report


def _write(records: Iterator[Article | Deletion], path: Path) -> list[Deletion]:
    """Writes the articles; the deletions, which are few, are handed back."""
    deletions: list[Deletion] = []
    articles: list[Article] = []
    characters = 0
    group: list[pa.RecordBatch] = []
    with pq.ParquetWriter(path, ARTICLE_SCHEMA, compression="zstd") as writer:
        for record in records:
            if isinstance(record, Deletion):
                deletions.append(record)
                continue
            articles.append(record)
            characters += sum(len(section.text) for section in record.sections)
            if len(articles) == _BATCH or characters >= _CHARACTERS:
                group.append(to_batch(articles))
                articles, characters = [], 0
                if sum(map(len, group)) >= _ROWS or sum(b.nbytes for b in group) >= _BYTES:
                    writer.write_table(pa.Table.from_batches(group))
                    group = []
        if articles:
            group.append(to_batch(articles))
        if group:
            writer.write_table(pa.Table.from_batches(group))
    return deletions
