"""A corpus as ordinary Parquet, for programs that know nothing of it.

``articles/NAME.parquet`` of every NLM file of which something is in the latest state, with those
rows and nothing else, and a ``manifest.json``. It is a copy: run it again after an update.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from modernpubmed.articles import corpus_manifest, parts, table_batches
from modernpubmed.manifest import MANIFEST_NAME, Manifest, refuse_other_files, replacing, sha256
from modernpubmed.pubmed.order import stem
from modernpubmed.schemas import ARTICLE_SCHEMA

_KIND = "plain corpus"
_FOLDER = "articles"


def write_plain(
    corpus: Path, out: Path, *, progress: Callable[[str, int, int], None] | None = None
) -> Manifest:
    """Writes the latest state of a corpus to the folder ``out``.

    Args:
        corpus: What ``consolidate`` made.
        out: Folder to write to; one that this function wrote earlier is replaced.
        progress: Called after each file with what is done, how many files are, and of how many.

    Returns:
        The manifest: counts ``articles`` and ``files`` (written).

    Raises:
        ModernPubMedError: There is no corpus, it is damaged, or ``out`` holds other files.
    """
    out = out.resolve()
    refuse_other_files(out, _KIND, {_FOLDER}, "this is no plain corpus")
    source = corpus_manifest(corpus)
    files = source.settings["files"]
    articles = written = 0
    with replacing(out) as folder:
        (folder / _FOLDER).mkdir(parents=True)
        for place, (file, part) in enumerate(zip(files, parts(corpus), strict=True), start=1):
            if part.live.any():
                target = folder / _FOLDER / f"{stem(file['name'])}.parquet"
                with pq.ParquetWriter(target, ARTICLE_SCHEMA, compression="zstd") as writer:
                    for batch in table_batches(part.table, part.live):
                        writer.write_batch(batch)
                        articles += batch.num_rows
                written += 1
            if progress is not None:
                progress("files copied", place, len(files))
        manifest = Manifest(
            kind=_KIND,
            inputs={f"{corpus.name}/{MANIFEST_NAME}": sha256(corpus / MANIFEST_NAME)},
            settings={"as_of": source.settings["as_of"]},
            counts={"files": written, "articles": articles},
        )
        manifest.write(folder)
    return manifest
