"""The fall-back: a folder without a graph, run by sentence-transformers (extra ``train``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from modernpubmed.encoder.graph import cut_tokens, load_tokenizer
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import sha256


class TorchModel:
    """A ``SentenceTransformer`` behind the same three facts and one verb as a graph."""

    def __init__(self, model: SentenceTransformer, path: Path) -> None:
        self._model = model
        self._path = path
        self.tokenizer = load_tokenizer(path, self.max_tokens)

    @property
    def max_tokens(self) -> int:
        """The longest text it reads."""
        return int(self._model.max_seq_length)

    @property
    def dimension(self) -> int:
        """The dimension d of its vectors."""
        return int(self._model.get_embedding_dimension())

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the folder."""
        return sha256(self._path)

    @property
    def prompts(self) -> Mapping[str, str]:
        """The model's own prompts, empty where it has none."""
        return {"query": "", "document": "", **self._model.prompts}

    def embed(
        self, texts: Sequence[str], batch_size: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Unit vectors ``[n, d]`` and how many tokens of each of the n texts were cut."""
        vectors = self._model.encode(
            list(texts),
            batch_size=batch_size,
            normalize_embeddings=True,
            show_progress_bar=False,
            prompt="",
        )
        encodings = self.tokenizer.encode_batch_fast(list(texts))
        return np.asarray(vectors, dtype=np.float32), cut_tokens(self.tokenizer, encodings)


def load_torch(path: Path, *, max_tokens: int | None) -> TorchModel:
    """Loads a folder with sentence-transformers, in fp32.

    Raises:
        ModernPubMedError: sentence-transformers cannot read it.
    """
    transformers.logging.disable_progress_bar()
    try:
        model = SentenceTransformer(str(path), model_kwargs={"dtype": torch.float32})
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModernPubMedError(
            f"sentence-transformers cannot load it ({str(error).splitlines()[0]})",
            file=path,
            remedy="copy the model folder again, whole",
        ) from error
    if max_tokens is not None:
        model.max_seq_length = min(max_tokens, model.max_seq_length)
    return TorchModel(model, path)
