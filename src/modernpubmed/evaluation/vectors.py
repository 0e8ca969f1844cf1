"""Vectors kept on disk, for evaluations that encode the same texts again and again.

Testing a model with damaged queries, or on a part of a suite, needs the documents' vectors every
time, and on a CPU these are minutes to hours. A file's name is a SHA-256 of everything that
decides its content: the model's fingerprint, its length, role and prompt, and the texts in their
order. A file is therefore never out of date, only unused; deleting the folder is always safe.

One ``.npz`` file each, not compressed: the ZIP container checks the content by CRC-32, and the
vectors and their counts appear together or not at all. A file that is damaged is made again.
Given up: sharing vectors between lists of texts that overlap, and tidying up.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modernpubmed.manifest import replacing

# Part of every name, so that another layout of the files would not be read as this one.
_LAYOUT = "modernpubmed vectors 1"


@dataclass(frozen=True, slots=True)
class Encoded:
    """Texts' vectors, and what making them took.

    Attributes:
        vectors: float32 ``[n, d]``, in the order of the texts.
        truncated: How many of the texts were cut to the model's length.
        seconds: Wall-clock time of encoding, when they were encoded.
    """

    vectors: NDArray[np.float32]
    truncated: int
    seconds: float


def cached(
    encode: Callable[[], Encoded],
    texts: Sequence[str],
    folder: Path,
    *,
    fingerprint: str,
    role: str,
    prompt: str = "",
    max_tokens: int | None = None,
) -> Encoded:
    """What ``encode()`` returns, from the folder if it was kept there before.

    Args:
        encode: Encodes the texts; called when there is no file of them, or a damaged one.
        texts: The n texts.
        folder: Where the files are; made when it is not there.
        fingerprint: The model's, which says what computes the vectors.
        role: ``query`` or ``document``: a model may treat the two differently.
        prompt: What the model puts before each text.
        max_tokens: The length it cuts at, where it says so.

    Raises:
        ModernPubMedError: What ``encode`` raises; then nothing is kept.

    >>> import tempfile
    >>> made = Encoded(np.ones((1, 2), dtype=np.float32), 0, 0.5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first = cached(lambda: made, ["fever"], Path(folder), fingerprint="0", role="query")
    ...     again = cached(lambda: 1 / 0, ["fever"], Path(folder), fingerprint="0", role="query")
    >>> again.vectors.tolist(), again.seconds
    ([[1.0, 1.0]], 0.5)
    """
    parts = (_LAYOUT, fingerprint, str(max_tokens), role, prompt)
    path = folder / f"{_digest(parts, texts)}.npz"
    if (kept := _read(path, len(texts))) is not None:
        return kept
    made = encode()
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            vectors=np.asarray(made.vectors, dtype=np.float32),
            truncated=np.int64(made.truncated),
            seconds=np.float64(made.seconds),
        )
    return made


def _digest(parts: Sequence[str], texts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for text in (*parts, *texts):
        content = text.encode("utf-8", "surrogatepass")
        # With its length before it, no text can pass for two.
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def _read(path: Path, rows: int) -> Encoded | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            vectors = file["vectors"]
            if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != rows:
                return None
            return Encoded(vectors, int(file["truncated"]), float(file["seconds"]))
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile):
        return None
