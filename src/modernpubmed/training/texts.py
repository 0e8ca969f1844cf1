"""What a student is made of: files of pairs, and files of single texts.

Pairs are the Parquet files that ``modernpubmed pairs`` writes. Single texts are lines, or JSON
lines with ``text`` or ``title``; either may be packed by gzip or Zstandard.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modernpubmed.errors import ModernPubMedError
from modernpubmed.lines import json_lines, text_lines
from modernpubmed.training.data import read_columns, split_file

_PACKED = (".gz", ".zst")
_SHAPE = '{"text": …} or {"title": …}'


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of a file.

    Attributes:
        file: Where they were read from.
        anchors: Those of the pairs, or all single texts.
        positives: The other sides of the pairs, as many; of single texts none.
    """

    file: Path
    anchors: list[str]
    positives: list[str]


def read_texts(path: Path) -> Texts:
    """Reads a file of pairs or of single texts.

    Args:
        path: A folder with ``train.parquet``, a Parquet file of pairs, ``.txt`` with one text a
            line (blank lines are none), or ``.jsonl``; the last two also as ``.gz`` and ``.zst``.

    Raises:
        ModernPubMedError: The file is missing, damaged, or of another kind; it holds no text; a
            line of JSON has none, or an abstract too (names the line).
    """
    kind = path.with_suffix("").suffix if path.suffix in _PACKED else path.suffix
    if path.is_dir() or kind == ".parquet":
        file = split_file(path, "train")
        anchors, positives = read_columns(file)
    elif kind in (".txt", ".jsonl"):
        file, positives = path, []
        anchors = list(_lines(path) if kind == ".txt" else _objects(path))
    else:
        raise ModernPubMedError(
            "neither pairs nor texts, by its name",
            file=path,
            remedy="give a folder or .parquet of pairs, or .txt or .jsonl of single texts",
        )
    if not anchors:
        raise ModernPubMedError("holds no text", file=file, remedy="give one with texts")
    return Texts(file, anchors, positives)


def _lines(path: Path) -> Iterator[str]:
    return (line for _, text in text_lines(path) if (line := text.strip()))


def _objects(path: Path) -> Iterator[str]:
    for number, record in json_lines(path, _SHAPE):
        if record.get("abstract"):
            raise ModernPubMedError(
                "is a pair, not a single text",
                file=path,
                record=f"line {number}",
                remedy=f"make pairs of it first: modernpubmed pairs {path} --out FOLDER",
            )
        text = record.get("text", record.get("title"))
        if not isinstance(text, str) or not text.strip():
            raise ModernPubMedError(
                "holds no text",
                file=path,
                record=f"line {number}",
                remedy=f"write each line as {_SHAPE}",
            )
        yield text.strip()
