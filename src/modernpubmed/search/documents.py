"""Documents to search in, and the files they are read from, one at a time.

Whatever the file, a document is an id, a title and a text, with the PMID, year and journal where
the file knows them. Files are streamed: memory does not grow with their length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from modernpubmed.articles import ARTICLES_NAME, article_batches, is_corpus
from modernpubmed.errors import ModernPubMedError
from modernpubmed.lines import json_lines, text_lines
from modernpubmed.records import AbstractSection, Article

_JSONL, _TEXT = ".jsonl", ".txt"
# What a document takes of an article.
_ARTICLE = ["pmid", "title", "sections", "year", "journal"]
_COMPRESSED = (".gz", ".zst")
_SHAPE = '{"id": "1", "title": "A title", "text": "A text"}'
_REMEDY = (
    "give a corpus, a Parquet of articles or pairs, a BEIR folder, a .jsonl of id, title and text, "
    "or a .txt of one text a line (either may be .gz or .zst)"
)


@dataclass(frozen=True, slots=True)
class Document:
    """One text that can be found.

    Attributes:
        id: Unique in its index: the PMID, the id in the file, or ``line N``.
        title: May be empty.
        text: The abstract, the passage; may be empty.
        pmid: PubMed identifier, where known.
        year: Publication year, where known.
        journal: Journal title, where known.
    """

    id: str
    title: str = ""
    text: str = ""
    pmid: int | None = None
    year: int | None = None
    journal: str | None = None

    @property
    def passage(self) -> str:
        """What is encoded: title, space, text (as BEIR and sentence-transformers join them).

        >>> Document("7", "A title.", "A text.").passage
        'A title. A text.'
        """
        return f"{self.title} {self.text}".strip()


def read_documents(path: str | Path) -> Iterator[Document]:
    """The documents of a file or folder, by its ending and what is in it.

    - ``.parquet``, or a folder of them (of its ``articles.parquet`` alone where it has one): our
      articles (id: the PMID) or our pairs (title: the anchor, text: the positive; id: the PMID, or
      the row where there is none).
    - A corpus of ``modernpubmed consolidate``: the articles of its latest state.
    - A BEIR folder: its ``corpus.jsonl``.
    - ``.jsonl``: objects with ``id`` (or BEIR's ``_id``), ``text`` and, where there are any,
      ``title``, ``pmid``, ``year``, ``journal``.
    - ``.txt``: a text a line; the id is ``line N``.

    The last two may be compressed (``.gz``, ``.zst``).

    Raises:
        ModernPubMedError: None of these, or broken; names the file and, when it got so far, the
            line. Raised while iterating, when that place is reached.
    """
    path = Path(path)
    if not path.exists():
        raise ModernPubMedError("there is no such file", file=path, remedy="check the path")
    if path.is_dir():
        tables = sorted(path.glob("*.parquet"))
        if is_corpus(path):
            for batch in article_batches(path, _ARTICLE):
                yield from map(_of_article, batch.to_pylist())
        elif (path / "corpus.jsonl").is_file():
            yield from _read_jsonl(path / "corpus.jsonl")
        elif tables:
            # A folder of articles also holds its deletions.
            articles = [table for table in tables if table.name == ARTICLES_NAME]
            for table in articles or tables:
                yield from _read_parquet(table)
        else:
            raise ModernPubMedError(
                "a folder with neither corpus.jsonl nor .parquet", file=path, remedy=_REMEDY
            )
        return
    ending = path.with_suffix("").suffix if path.suffix in _COMPRESSED else path.suffix
    if path.suffix == ".parquet":
        yield from _read_parquet(path)
    elif ending == _JSONL:
        yield from _read_jsonl(path)
    elif ending == _TEXT:
        for number, line in text_lines(path):
            yield Document(f"line {number}", text=line.strip())
    else:
        raise ModernPubMedError(
            f"not a file of documents ('{path.suffix}')", file=path, remedy=_REMEDY
        )


def _read_parquet(path: Path) -> Iterator[Document]:
    try:
        with pq.ParquetFile(path) as file:
            columns = set(file.schema_arrow.names)
            if columns.issuperset(_ARTICLE):
                yield from map(_of_article, _rows(file, _ARTICLE))
            elif {"anchor", "positive", "pmid", "year"} <= columns:
                rows = _rows(file, ["anchor", "positive", "pmid", "year"])
                for number, row in enumerate(rows, start=1):
                    pmid = row["pmid"]
                    yield Document(
                        f"row {number}" if pmid is None else str(pmid),
                        row["anchor"],
                        row["positive"],
                        pmid,
                        row["year"],
                    )
            else:
                raise ModernPubMedError(
                    f"neither articles nor pairs, its columns are {', '.join(sorted(columns))}",
                    file=path,
                    remedy="make it with modernpubmed parse or pairs",
                )
    except (pa.ArrowException, OSError) as error:
        raise ModernPubMedError(
            f"not a readable Parquet file ({error})", file=path, remedy="make it again"
        ) from error


def _of_article(row: dict[str, Any]) -> Document:
    sections = tuple(AbstractSection(**section) for section in row["sections"])
    article = Article(row["pmid"], row["title"], sections=sections)
    return Document(
        str(article.pmid),
        article.title,
        article.abstract,
        article.pmid,
        row["year"],
        row["journal"],
    )


def _rows(file: pq.ParquetFile, columns: list[str]) -> Iterator[dict[str, Any]]:
    for batch in file.iter_batches(batch_size=4096, columns=columns):
        yield from batch.to_pylist()


def _read_jsonl(path: Path) -> Iterator[Document]:
    for number, record in json_lines(path, _SHAPE):
        yield _document(record, path, number)


def _document(fields: dict[str, Any], path: Path, number: int) -> Document:
    def wrong(cause: str) -> ModernPubMedError:
        return ModernPubMedError(
            cause, file=path, record=f"line {number}", remedy=f"write each line as {_SHAPE}"
        )

    def string(key: str) -> str | None:
        value = fields.get(key)
        if value is not None and not isinstance(value, str):
            raise wrong(f"{key} is not a text")
        return value

    def whole(key: str) -> int | None:
        value = fields.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
            raise wrong(f"{key} is not a whole number below 2^31")
        return value

    identifier = fields.get("_id", fields.get("id"))
    if not isinstance(identifier, str | int) or isinstance(identifier, bool) or identifier == "":
        raise wrong("no id")
    if "text" not in fields:
        raise wrong("no text")
    return Document(
        str(identifier),
        string("title") or "",
        string("text") or "",
        whole("pmid"),
        whole("year"),
        string("journal"),
    )
