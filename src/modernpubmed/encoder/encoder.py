"""``Encoder``: texts in, unit vectors out, and nothing heavier than onnxruntime.

A folder with a graph runs through onnxruntime; one without runs through sentence-transformers
when the extra is installed. Either way the vectors are float32, of length 1, in the order of the
texts, and a text that was cut is counted and said, never cut in silence.
"""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from modernpubmed.encoder.folder import GRAPH_PLACES, read_folder
from modernpubmed.encoder.graph import load_graph
from modernpubmed.errors import MissingExtraError, ModernPubMedError

#: The model in the package.
SHIPPED_MODEL = Path(__file__).parents[1] / "models" / "modernpubmed-mini"

Vectors = NDArray[np.float32]

# The texts that a model may want something put before.
_ROLES = ("query", "document")


class TruncationWarning(UserWarning):
    """Some texts were longer than the model reads and were cut."""


class _Model(Protocol):
    @property
    def max_tokens(self) -> int: ...
    @property
    def dimension(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    def embed(self, texts: Sequence[str], batch_size: int) -> tuple[Vectors, NDArray[np.bool_]]: ...


class Encoder:
    """Turns texts into unit vectors.

    Args:
        model: What does the work.
        name: The model's short name, for tables and manifests.
        prompts: What is put before queries and documents.
        folder: Where the model was read from, where it was read from a folder.

    >>> encoder = Encoder.load()
    >>> vectors = encoder.encode(["myocardial infarction", "heart attack", "asyncio.run()"])
    >>> vectors.shape, vectors.dtype.name
    ((3, 384), 'float32')
    >>> related, unrelated = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    >>> bool(related > unrelated + 0.3)
    True
    """

    def __init__(
        self, model: _Model, *, name: str, prompts: Mapping[str, str], folder: Path | None = None
    ) -> None:
        self._model = model
        self.name = name
        self.prompts = prompts
        self.folder = folder
        self.truncated = 0

    @classmethod
    def load(
        cls,
        source: str | Path | None = None,
        *,
        max_tokens: int | None = None,
        threads: int | None = None,
        prompts: Mapping[str, str] | None = None,
    ) -> Self:
        """Loads a model.

        Args:
            source: A sentence-transformers folder, or a hub name (``owner/model``) to fetch it
                from; None is the model in the package.
            max_tokens: Cut texts at this length instead of the model's own, which it cannot exceed.
            threads: Processor threads of a graph; None leaves it to onnxruntime.
            prompts: What to put before a ``query`` or a ``document`` instead of what the model's
                own configuration says; a role that is not named keeps its own.

        Raises:
            ModernPubMedError: There is no such folder or hub model; it is broken; it has no graph
                and the extra ``train`` is not installed; a prompt is for something else than
                ``query`` and ``document``.
        """
        changed = dict(prompts or {})
        for role, prompt in changed.items():
            if role not in _ROLES or not isinstance(prompt, str):
                raise ModernPubMedError(
                    f"no prompt can be given for {role!r}, or it is no string",
                    remedy="give strings for query and document",
                )
        if max_tokens is not None and max_tokens < 1:
            raise ModernPubMedError(f"max_tokens is {max_tokens}", remedy="give 1 or more")
        path = Path(SHIPPED_MODEL if source is None else source)
        name = path.resolve().name if path.is_dir() else str(path)
        if not path.is_dir():
            path = _fetch(name)
        if any((path / place).is_file() for place in GRAPH_PLACES):
            folder = read_folder(path)
            model = load_graph(folder, max_tokens=max_tokens, threads=threads)
            return cls(model, name=name, prompts={**folder.prompts, **changed}, folder=path)
        return cls._load_with_torch(path, name, max_tokens, changed)

    @classmethod
    def _load_with_torch(
        cls, path: Path, name: str, max_tokens: int | None, changed: Mapping[str, str]
    ) -> Self:
        if (path / "modules.json").is_file():
            try:
                read_folder(path)  # says what is missing better than a traceback of torch does
            except ModernPubMedError:
                if not any(path.glob("*.safetensors")) and not any(path.glob("*.bin")):
                    raise
        elif not (path / "config.json").is_file():
            raise ModernPubMedError(
                "not a model folder: neither modules.json nor config.json",
                file=path,
                remedy="give a folder that SentenceTransformer.save_pretrained wrote",
            )
        if importlib.util.find_spec("sentence_transformers") is None:
            raise MissingExtraError("train", f"{path} has no exported graph; reading it")
        from modernpubmed.encoder.torch_model import load_torch

        model = load_torch(path, max_tokens=max_tokens)
        return cls(model, name=name, prompts={**model.prompts, **changed}, folder=path)

    @property
    def dimension(self) -> int:
        """The dimension d of its vectors."""
        return self._model.dimension

    @property
    def max_tokens(self) -> int:
        """The longest text it reads, in tokens with the special ones; the rest is cut."""
        return self._model.max_tokens

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what computes the vectors, prompts included: encoders that share it agree."""
        used = [self.prompts.get(role, "") for role in _ROLES]
        if not any(used):
            return self._model.fingerprint
        return hashlib.sha256(repr((self._model.fingerprint, *used)).encode()).hexdigest()

    def encode(self, texts: Sequence[str], *, prompt: str = "", batch_size: int = 32) -> Vectors:
        """The vectors of texts.

        Args:
            texts: n texts; an empty one is allowed.
            prompt: Put before every text.
            batch_size: Texts a call of the graph.

        Returns:
            float32 ``[n, d]``, rows of length 1, in the order of the texts.

        Raises:
            ModernPubMedError: ``texts`` is a bare string or holds something else than strings, or
                the model gave a vector that is not finite.

        Warns:
            TruncationWarning: Texts were cut; ``truncated`` counts them over the encoder's life.
        """
        if isinstance(texts, str):
            raise ModernPubMedError(
                "encode was given one string", remedy="give a list of strings: encode([text])"
            )
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise ModernPubMedError(
                    f"is {type(text).__name__}, not a string",
                    record=f"text {row}",
                    remedy="give strings only",
                )
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        vectors, cut = self._model.embed([prompt + text for text in texts], batch_size)
        if not np.isfinite(vectors).all():
            row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
            raise ModernPubMedError(
                f"{self.name} gave a vector that is not finite",
                record=f"text {row}",
                remedy="the weights are damaged: train or copy the model again",
            )
        if count := int(cut.sum()):
            self.truncated += count
            warnings.warn(
                f"{count} of {len(texts)} texts are longer than {self.max_tokens} tokens "
                f"and were cut ({self.name})",
                TruncationWarning,
                stacklevel=2,
            )
        return vectors

    def encode_query(self, texts: Sequence[str], *, batch_size: int = 32) -> Vectors:
        """``encode`` with the model's own query prompt."""
        return self.encode(texts, prompt=self.prompts["query"], batch_size=batch_size)

    def encode_document(self, texts: Sequence[str], *, batch_size: int = 32) -> Vectors:
        """``encode`` with the model's own document prompt."""
        return self.encode(texts, prompt=self.prompts["document"], batch_size=batch_size)

    def similarity(self, a: Sequence[str] | Vectors, b: Sequence[str] | Vectors) -> Vectors:
        """Cosine similarities ``[n, m]`` of n texts (or vectors ``[n, d]``) and m others.

        >>> encoder = Encoder.load()
        >>> encoder.similarity(["fever"], ["fever", "raised body temperature"]).shape
        (1, 2)
        """
        left, right = (
            side if isinstance(side, np.ndarray) else self.encode(side) for side in (a, b)
        )
        return left @ right.T


def _fetch(name: str) -> Path:
    """A hub model's folder, fetched to the hub's cache (or found there)."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(name, ignore_patterns=["*.bin", "*.h5", "*.msgpack", "openvino/*"])
        )
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModernPubMedError(
            f"no such folder, and not to be had from the hub ({type(error).__name__})",
            file=name,
            remedy="give the path of a model folder, or a hub name while online",
        ) from error
