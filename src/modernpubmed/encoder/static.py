"""Running a static model: a text's vector is the mean of its tokens' vectors, brought to length 1.

A sentence-transformers folder whose modules are ``StaticEmbedding`` and ``Normalize`` has no
transformer: a table of one vector for each token, and a tokenizer. Texts of any length are read
whole, since a mean has no positions to run out of. The vector of a text without a token (an empty
one) is all zeros, as in sentence-transformers: at cosine 0 to everything.

The table is read from the safetensors file directly (eight bytes of length, a JSON header, raw
tensors), so that neither torch nor another library is needed.

Specification: https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from modernpubmed.encoder.folder import (
    TOKENIZER_NAME,
    WEIGHTS_NAME,
    module_names,
    read_json,
    read_prompts,
    read_tokenizer,
)
from modernpubmed.encoder.pooling import normalize
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import sha256

#: The table's name in ``model.safetensors``, as sentence-transformers writes it.
TABLE_NAME = "embedding.weight"

#: Our vectors have length 1 whether or not the folder says so.
_MODULES = (["StaticEmbedding"], ["StaticEmbedding", "Normalize"])
_TYPES: Mapping[str, str] = {"F16": "<f2", "F32": "<f4"}
_REMEDY = "copy the model folder again, whole"
#: Texts that are tokenised while the ones before are computed.
_BLOCK = 1024
#: Most token vectors that are gathered at a time, so that they stay in a core's cache.
_GATHERED = 1024


@dataclass(frozen=True, slots=True)
class StaticModel:
    """A table of token vectors with its tokenizer.

    Attributes:
        table: float32 ``[tokens, d]``.
        tokenizer: Adds no special tokens; cuts to ``max_tokens`` where there is a limit.
        max_tokens: The limit in force; without one the largest number there is.
        fingerprint: SHA-256 of all that decides its vectors: table, tokenizer and limit.
        prompts: What is put before a text, by role (``query``, ``document``).
    """

    table: NDArray[np.float32]
    tokenizer: Tokenizer
    max_tokens: int
    fingerprint: str
    prompts: Mapping[str, str]

    @property
    def dimension(self) -> int:
        """The dimension d of its vectors."""
        return int(self.table.shape[1])

    def embed(
        self,
        texts: Sequence[str],
        batch_size: int,  # noqa: ARG002  # texts need no padding, so no batches either
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Unit vectors ``[n, d]`` and how many tokens of each of the n texts were cut."""
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        cut = np.zeros(len(texts), dtype=np.int64)
        with ThreadPoolExecutor(1) as ahead:
            following = ahead.submit(self._tokens, texts[:_BLOCK])
            for start in range(0, len(texts), _BLOCK):
                encodings = following.result()
                following = ahead.submit(self._tokens, texts[start + _BLOCK : start + 2 * _BLOCK])
                rows = slice(start, start + len(encodings))
                self._sum(encodings, vectors[rows])
                cut[rows] = [sum(map(len, one.overflowing)) for one in encodings]
        return normalize(vectors), cut

    def _tokens(self, texts: Sequence[str]) -> list[Encoding]:
        return list(self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False))

    def _sum(self, encodings: Sequence[Encoding], out: NDArray[np.float32]) -> None:
        """Writes the sum of each text's token vectors to ``out``: its direction is the mean's."""
        parts = [one.ids for one in encodings]
        lengths = np.fromiter(map(len, parts), np.int64, len(parts))
        ends = np.cumsum(lengths)
        ids = np.fromiter(chain.from_iterable(parts), np.int64, int(ends[-1]))
        first = 0
        while first < len(parts):
            begin = int(ends[first] - lengths[first])
            last = max(first + 1, int(np.searchsorted(ends, begin + _GATHERED, side="right")))
            rows = np.arange(first, last)[lengths[first:last] > 0]
            if len(rows):
                gathered = self.table[ids[begin : ends[last - 1]]]
                out[rows] = np.add.reduceat(gathered, ends[rows] - lengths[rows] - begin, axis=0)
            first = last


def is_static(path: Path) -> bool:
    """Whether a model folder says that it holds a static model and nothing more."""
    return (path / "modules.json").is_file() and module_names(path) in _MODULES


def load_static(path: Path, *, max_tokens: int | None) -> StaticModel:
    """Loads a static model.

    Args:
        path: A sentence-transformers folder for which ``is_static`` holds.
        max_tokens: Cut texts at this length; None reads them whole, if the tokenizer's own file
            sets no limit.

    Raises:
        ModernPubMedError: The table or the tokenizer is missing or broken, the tokenizer has
            tokens that the table has no vector for, or the table holds a number that is none.
    """
    # The first module lies in the folder itself, or in one of its own.
    place = path / str(read_json(path / "modules.json", kind=list)[0].get("path", ""))
    weights, file = place / WEIGHTS_NAME, place / TOKENIZER_NAME
    table = _read_table(weights)
    tokenizer = read_tokenizer(place)
    last = max(tokenizer.get_vocab().values(), default=-1)
    if last >= len(table):
        raise ModernPubMedError(
            f"has ids up to {last}, and {WEIGHTS_NAME} vectors for {len(table)} tokens",
            file=file,
            remedy=_REMEDY,
        )
    # A mean has no use for the special tokens it would add, nor may they count in the limit.
    tokenizer.post_processor = None
    tokenizer.no_padding()
    # sentence-transformers cuts where the tokenizer's file says so.
    limits = [max_tokens, (tokenizer.truncation or {}).get("max_length")]
    limit = min((limit for limit in limits if limit is not None), default=None)
    if limit is not None:
        tokenizer.enable_truncation(limit)
    parts = (sha256(weights), sha256(file), "static", limit)
    return StaticModel(
        table=table,
        tokenizer=tokenizer,
        max_tokens=sys.maxsize if limit is None else limit,
        fingerprint=hashlib.sha256(repr(parts).encode()).hexdigest(),
        prompts=read_prompts(path),
    )


def _read_table(file: Path) -> NDArray[np.float32]:
    try:
        content = file.read_bytes()
        (length,) = struct.unpack_from("<Q", content)
        entry = json.loads(content[8 : 8 + length])[TABLE_NAME]
        start, end = (8 + length + place for place in entry["data_offsets"])
        numbers = np.frombuffer(content[start:end], _TYPES[entry["dtype"]])
        rows, columns = entry["shape"]
        table: NDArray[np.float32] = numbers.reshape(rows, columns).astype(np.float32)
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise ModernPubMedError(
            f"holds no readable table {TABLE_NAME!r} of fp16 or fp32 ({error})",
            file=file,
            remedy=_REMEDY,
        ) from error
    return table
