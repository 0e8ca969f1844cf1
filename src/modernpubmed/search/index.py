"""From documents to an index: a LanceDB table of texts and vectors, and its manifest.

An index is a folder: ``documents.lance`` and ``manifest.json``. It is written under a temporary
name and appears complete or not at all; it can be moved and copied. Vectors are scanned exactly;
an approximate index over the same table can be added without changing its form.

Memory holds one batch of documents, and all ids, so that the same id twice is noticed when it
comes and not after hours of encoding: some 100 bytes a document, 4 GB for the whole of PubMed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa

from modernpubmed.errors import MissingExtraError, ModernPubMedError
from modernpubmed.manifest import Manifest, refuse_other_files, replacing
from modernpubmed.protocols import TextEncoder
from modernpubmed.search.documents import Document

TABLE_NAME = "documents"
_KIND = "index"


@dataclass(frozen=True, slots=True)
class Index:
    """An open index.

    Attributes:
        path: Its folder.
        manifest: What it was made from, with which encoder, and its counts.
        table: The LanceDB table; its columns are those of ``document_schema``.
    """

    path: Path
    manifest: Manifest
    table: Any

    def __len__(self) -> int:
        return int(self.table.count_rows())


def document_schema(dimension: int) -> pa.Schema:
    """Arrow schema of an index's table: ``Document``'s fields and the vector.

    >>> document_schema(3).field("vector").type
    FixedSizeListType(fixed_size_list<item: float>[3])
    """
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("title", pa.string(), nullable=False),
            pa.field("text", pa.string(), nullable=False),
            pa.field("pmid", pa.int64()),
            pa.field("year", pa.int32()),
            pa.field("journal", pa.string()),
            pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False),
        ]
    )


def build_index(
    documents: Iterable[Document],
    encoder: TextEncoder,
    out: Path,
    *,
    inputs: Mapping[str, str] | None = None,
    batch_size: int = 2048,
    report: Callable[[int], None] | None = None,
) -> Manifest:
    """Encodes documents and writes them as an index.

    Documents without title and text are left out and counted; so are texts that the encoder cut.

    Args:
        documents: Read once, in order.
        encoder: Its name and fingerprint go into the manifest; only it can search the index.
        out: The folder to make. An index that is already there is replaced.
        inputs: SHA-256 of the files the documents come from, by name, for the manifest.
        batch_size: Documents encoded and written at a time.
        report: Told after each batch how many documents are indexed.

    Returns:
        The manifest, as written.

    Raises:
        MissingExtraError: LanceDB is not installed.
        ModernPubMedError: An id comes twice, every document is empty, or ``out`` is something else
            than an index. Nothing is left behind, and an older index at ``out`` stays as it was.
    """
    lancedb = _lancedb()
    refuse_other_files(out, _KIND, {f"{TABLE_NAME}.lance"}, "there is something else than an index")
    schema = document_schema(encoder.dimension)
    cut = encoder.truncated
    read = empty = indexed = 0
    seen: set[str] = set()
    with replacing(out) as temporary:
        table = lancedb.connect(temporary).create_table(TABLE_NAME, schema=schema)
        for batch in _batches(documents, batch_size):
            read += len(batch)
            for document in batch:
                if document.id in seen:
                    raise ModernPubMedError(
                        "two documents have this id",
                        record=document.id,
                        remedy="give each document its own id, or drop the duplicate",
                    )
                seen.add(document.id)
            kept = [document for document in batch if document.passage]
            empty += len(batch) - len(kept)
            if kept:
                table.add(_rows(kept, encoder, schema))
                indexed += len(kept)
            if report is not None:
                report(indexed)
        if not indexed:
            raise ModernPubMedError(
                f"nothing to index: {read} documents, none with a text",
                remedy="check the input file",
            )
        # Each batch is a fragment with a version of its own: make them one. LanceDB warns of other
        # readers of the older versions; nobody can have this table open yet.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            table.optimize(cleanup_older_than=timedelta(0))
        manifest = Manifest(
            _KIND,
            inputs=dict(inputs or {}),
            settings={
                "encoder": encoder.name,
                "fingerprint": encoder.fingerprint,
                "dimension": encoder.dimension,
            },
            counts={
                "documents": read,
                "indexed": indexed,
                "truncated": encoder.truncated - cut,
            },
            dropped={"empty": empty},
        )
        manifest.write(temporary)
    return manifest


def open_index(path: str | Path) -> Index:
    """Opens an index that ``build_index`` made.

    Raises:
        MissingExtraError: LanceDB is not installed.
        ModernPubMedError: There is no index at ``path``, or it is damaged.
    """
    lancedb = _lancedb()
    path = Path(path)
    if not path.is_dir():
        raise ModernPubMedError(
            "there is no such index", file=path, remedy="make it with modernpubmed index"
        )
    manifest = Manifest.read(path)
    if manifest.kind != _KIND:
        raise ModernPubMedError(
            f"this is not an index but {manifest.kind}",
            file=path,
            remedy="give the folder that modernpubmed index made",
        )
    try:
        table = lancedb.connect(path).open_table(TABLE_NAME)
    except (ValueError, OSError, RuntimeError) as error:
        raise ModernPubMedError(
            f"the table of documents cannot be opened ({error})", file=path, remedy="index again"
        ) from error
    return Index(path, manifest, table)


def _lancedb() -> ModuleType:
    try:
        import lancedb
    except ModuleNotFoundError as error:
        raise MissingExtraError("search", "search") from error
    module: ModuleType = lancedb
    return module


def _batches(documents: Iterable[Document], size: int) -> Iterator[list[Document]]:
    remaining = iter(documents)
    while batch := list(islice(remaining, size)):
        yield batch


def _rows(documents: list[Document], encoder: TextEncoder, schema: pa.Schema) -> pa.Table:
    vectors = encoder.encode_document([document.passage for document in documents])
    rows = pa.Table.from_pylist(
        [asdict(document) for document in documents], schema=schema.remove(len(schema) - 1)
    )
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
    column = pa.FixedSizeListArray.from_arrays(flat, encoder.dimension)
    return rows.append_column(schema.field("vector"), column)
