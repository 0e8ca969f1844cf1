"""``Encoder``: texts in, unit vectors out, and nothing heavier than onnxruntime.

A folder with a graph runs through onnxruntime, a static model through NumPy, and any other through
sentence-transformers when the extra is installed. Every way the vectors are float32, of length 1,
in the order of the texts, and a text that was cut is counted and said, never cut in silence. A
longer text may also be refused, or read in windows whose vectors are pooled.
"""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from modernpubmed.encoder.folder import GRAPH_PLACES, INT8_NAME, read_folder
from modernpubmed.encoder.graph import PRECISIONS, Precision, load_graph
from modernpubmed.encoder.long import LONG, Long, Window, pool, split
from modernpubmed.encoder.precision import VectorType, quantize, shorten
from modernpubmed.encoder.static import is_static, load_static
from modernpubmed.errors import MissingExtraError, ModernPubMedError

if TYPE_CHECKING:
    from modernpubmed.encoder.torch_model import TorchModel

#: The models in the package, by name.
SHIPPED = {
    name: Path(__file__).parents[1] / "models" / name
    for name in ("modernpubmed-mini", "modernpubmed-nano")
}
#: The one that is meant where none is named.
SHIPPED_MODEL = SHIPPED["modernpubmed-mini"]

Vectors = NDArray[np.float32]

# The texts that a model may want something put before.
_ROLES = ("query", "document")
# Texts of a stream that are held at a time.
_STREAM = 4096


class TruncationWarning(UserWarning):
    """Some texts were longer than the model reads and were cut."""


class _Model(Protocol):
    @property
    def max_tokens(self) -> int: ...
    @property
    def dimension(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    def embed(self, texts: Sequence[str], batch_size: int) -> tuple[Vectors, NDArray[np.int64]]: ...


class Encoder:
    """Turns texts into unit vectors.

    Args:
        model: What does the work.
        name: The model's short name, for tables and manifests.
        prompts: What is put before queries and documents.
        folder: Where the model was read from, where it was read from a folder.
        long: What is done with a text that is longer than the model reads.
        dim: How many numbers of a vector are kept; None keeps all.

    Attributes:
        truncated: Texts that were cut so far.
        cut_tokens: Tokens that were cut off them.

    >>> encoder = Encoder.load()
    >>> vectors = encoder.encode(["myocardial infarction", "heart attack", "asyncio.run()"])
    >>> vectors.shape, vectors.dtype.name
    ((3, 384), 'float32')
    >>> related, unrelated = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    >>> bool(related > unrelated + 0.3)
    True
    """

    def __init__(
        self,
        model: _Model,
        *,
        name: str,
        prompts: Mapping[str, str],
        folder: Path | None = None,
        long: Long = "truncate",
        dim: int | None = None,
    ) -> None:
        if long not in LONG:
            raise ModernPubMedError(f"long is {long!r}", remedy=f"give one of {', '.join(LONG)}")
        self._model = model
        self.name = name
        self.prompts = prompts
        self.folder = folder
        self.long = long
        self._dim = dim
        #: The dimension d of its vectors.
        self.dimension = shorten(np.ones((1, model.dimension), np.float32), dim).shape[1]
        self.truncated = 0
        self.cut_tokens = 0

    @classmethod
    def load(
        cls,
        source: str | Path | None = None,
        *,
        max_tokens: int | None = None,
        threads: int | None = None,
        precision: Precision = "auto",
        prompts: Mapping[str, str] | None = None,
        long: Long = "truncate",
        dim: int | None = None,
    ) -> Self:
        """Loads a model.

        Args:
            source: A sentence-transformers folder, the name of a model in the package
                (``modernpubmed-mini``, ``modernpubmed-nano``), or a hub name (``owner/model``) to
                fetch it from; None is ``modernpubmed-mini``.
            max_tokens: Cut texts at this length instead of the model's own, which it cannot exceed.
            threads: Processor threads of a graph, each with a batch of its own; None takes what
                the process, or the container it is in, may use.
            precision: ``int8`` runs the folder's int8 graph, ``float32`` the full one, ``auto``
                int8 where there is one. See ``docs/encoding.md`` for what that costs and gains.
            prompts: What to put before a ``query`` or a ``document`` instead of what the model's
                own configuration says; a role that is not named keeps its own.
            long: What is done with a text that is longer than the model reads: ``truncate`` cuts
                it, ``error`` refuses it, ``chunk`` reads it in overlapping windows and takes the
                mean of their vectors, weighted by tokens.
            dim: Keep the first ``dim`` numbers of a vector, brought to length 1 again; good if the
                model was trained for it (Matryoshka). None keeps all.

        Raises:
            ModernPubMedError: There is no such folder or hub model; it is broken; it has no graph
                and the extra ``train`` is not installed; it has no graph in the wanted precision;
                its graph gives other vectors on this processor than when it was exported; a
                prompt is for something else than ``query`` and ``document``; its vectors have
                fewer than ``dim`` numbers.
        """
        changed = dict(prompts or {})
        for role, prompt in changed.items():
            if role not in _ROLES or not isinstance(prompt, str):
                raise ModernPubMedError(
                    f"no prompt can be given for {role!r}, or it is no string",
                    remedy="give strings for query and document",
                )
        for what, number in (("max_tokens", max_tokens), ("threads", threads)):
            if number is not None and number < 1:
                raise ModernPubMedError(f"{what} is {number}", remedy="give 1 or more")
        if precision not in PRECISIONS:
            raise ModernPubMedError(
                f"precision is {precision!r}", remedy=f"give one of {', '.join(PRECISIONS)}"
            )
        path = Path(SHIPPED_MODEL if source is None else source)
        name = path.resolve().name if path.is_dir() else str(path)
        if not path.is_dir():
            path = SHIPPED.get(name) or _fetch(name)
        if is_static(path):
            if precision == "int8":
                raise ModernPubMedError(
                    "a static model has no int8 graph", file=path, remedy="leave precision out"
                )
            static = load_static(path, max_tokens=max_tokens)
            prompts = {**static.prompts, **changed}
            return cls(static, name=name, prompts=prompts, folder=path, long=long, dim=dim)
        places = GRAPH_PLACES if precision == "float32" else (*GRAPH_PLACES, INT8_NAME)
        if precision == "int8" or any((path / place).is_file() for place in places):
            folder = read_folder(path)
            model: _Model = load_graph(
                folder, max_tokens=max_tokens, threads=threads, precision=precision
            )
            prompts = {**folder.prompts, **changed}
        else:
            model = by_torch = _load_torch(path, max_tokens)
            prompts = {**by_torch.prompts, **changed}
        return cls(model, name=name, prompts=prompts, folder=path, long=long, dim=dim)

    @property
    def max_tokens(self) -> int:
        """The longest text it reads at once, in tokens with the special ones."""
        return self._model.max_tokens

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides its vectors: encoders that share it agree."""
        used: list[object] = [self.prompts.get(role, "") for role in _ROLES]
        if not any(used) and self.long != "chunk" and self.dimension == self._model.dimension:
            return self._model.fingerprint
        if self.long == "chunk":
            used.append("chunk")
        if self.dimension != self._model.dimension:
            used.append(self.dimension)
        return hashlib.sha256(repr((self._model.fingerprint, *used)).encode()).hexdigest()

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt: str = "",
        batch_size: int = 32,
        dtype: VectorType = "float32",
    ) -> NDArray[Any]:
        """The vectors of texts.

        Args:
            texts: n texts; an empty one is allowed.
            prompt: Put before every text.
            batch_size: Most texts a call of the model; fewer where they are long.
            dtype: What the numbers are stored as: ``float32``, ``float16``, ``int8`` (each vector
                times its own factor: compare by cosine) or ``binary`` (signs, eight to a byte).

        Returns:
            ``[n, d]``, rows of length 1 (but for int8 and binary), in the order of the texts; for
            binary uint8 ``[n, ⌈d / 8⌉]``.

        Raises:
            ModernPubMedError: ``texts`` is a bare string or holds something else than strings; a
                text is too long and the encoder was loaded with ``long="error"``; the model gave a
                vector that is not finite; there is no such ``dtype``.

        Warns:
            TruncationWarning: Texts were cut; ``truncated`` and ``cut_tokens`` count them and what
                they lost over the encoder's life.
        """
        before = self.truncated, self.cut_tokens
        vectors = quantize(self._vectors(_checked(texts), prompt, batch_size), dtype)
        if self.truncated > before[0]:
            warnings.warn(
                f"{self.truncated - before[0]:,} of {len(texts):,} texts are longer than "
                f"{self.max_tokens:,} tokens and were cut, by {self.cut_tokens - before[1]:,} "
                f"in all ({self.name})",
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

    def encode_stream(
        self,
        texts: Iterable[str],
        *,
        prompt: str = "",
        batch_size: int = 32,
        dtype: VectorType = "float32",
        first: int = 0,
    ) -> Iterator[NDArray[Any]]:
        """The vectors of texts that come one after the other, however many: as ``encode``'s.

        At most 4,096 texts and their vectors are held at a time. What is cut is counted in
        ``truncated`` and ``cut_tokens``; no warning is given.

        Args:
            texts: The texts; read as they are needed.
            prompt: As in ``encode``.
            batch_size: As in ``encode``.
            dtype: As in ``encode``.
            first: The place of the first text, where an error has to name one.

        Yields:
            Blocks of vectors, in the order of the texts; together a row a text.

        Raises:
            ModernPubMedError: As ``encode``; the text is named by its place in the stream.

        >>> encoder = Encoder.load()
        >>> [block.shape for block in encoder.encode_stream(name for name in ("fever", "cough"))]
        [(2, 384)]
        """
        if isinstance(texts, str):
            _checked(texts)
        source = iter(texts)
        while block := list(islice(source, _STREAM)):
            yield quantize(self._vectors(_checked(block, first), prompt, batch_size, first), dtype)
            first += len(block)

    def windows(
        self, texts: Sequence[str], *, prompt: str = "", batch_size: int = 32
    ) -> tuple[list[Window], Vectors]:
        """The windows that texts are read in, and a vector for each.

        Whatever ``long`` is: a text that fits is one window, a longer one several, each ending
        with a word and sharing some 32 tokens with the one before.

        Returns:
            w windows in the order of the texts, and float32 ``[w, d]``, rows of length 1.

        Raises:
            ModernPubMedError: As ``encode``; or the prompt leaves no room for text.

        >>> encoder = Encoder.load(max_tokens=8)
        >>> texts = ["fever", "fever and cough for two weeks in a child"]
        >>> windows, vectors = encoder.windows(texts)
        >>> [(window.text, window.start, window.end) for window in windows], vectors.shape
        ([(0, 0, 5), (1, 0, 29), (1, 24, 40)], (3, 384))
        """
        parts = split(
            self._model.tokenizer, _checked(texts), max_tokens=self.max_tokens, prompt=prompt
        )
        pieces = [texts[part.text][part.start : part.end] for part in parts]
        return parts, shorten(self._run(pieces, prompt, batch_size, 0), self._dim)

    def _vectors(
        self, texts: Sequence[str], prompt: str, batch_size: int, first: int = 0
    ) -> Vectors:
        """float32 ``[n, d]``; ``first`` is the place of the first text in its stream."""
        if self.long == "chunk":
            parts = split(self._model.tokenizer, texts, max_tokens=self.max_tokens, prompt=prompt)
            if len(parts) > len(texts):
                pieces = [texts[part.text][part.start : part.end] for part in parts]
                vectors = self._run(pieces, prompt, batch_size, first)
                return shorten(pool(vectors, parts, len(texts)), self._dim)
        return shorten(self._run(texts, prompt, batch_size, first), self._dim)

    def _run(self, texts: Sequence[str], prompt: str, batch_size: int, first: int) -> Vectors:
        """The model's own vectors, finite; what was cut is counted, or refused."""
        if not texts:
            return np.zeros((0, self._model.dimension), dtype=np.float32)
        vectors, cut = self._model.embed([prompt + text for text in texts], batch_size)
        if not np.isfinite(vectors).all():
            row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
            raise ModernPubMedError(
                f"{self.name} gave a vector that is not finite",
                record=f"text {first + row}",
                remedy="the weights are damaged: train or copy the model again",
            )
        if self.long == "error" and cut.any():
            row = int(np.flatnonzero(cut)[0])
            raise ModernPubMedError(
                f"is {int(cut[row]):,} tokens longer than the {self.max_tokens:,} that "
                f"{self.name} reads ({np.count_nonzero(cut):,} such texts)",
                record=f"text {first + row}",
                remedy="load the encoder with long='truncate' or long='chunk'",
            )
        self.truncated += int(np.count_nonzero(cut))
        self.cut_tokens += int(cut.sum())
        return vectors

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


def _load_torch(path: Path, max_tokens: int | None) -> TorchModel:
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

    return load_torch(path, max_tokens=max_tokens)


def _checked(texts: Sequence[str], first: int = 0) -> Sequence[str]:
    """``texts``, if they are strings; ``first`` is the place of the first one in its stream."""
    if isinstance(texts, str):
        raise ModernPubMedError(
            "encode was given one string", remedy="give a list of strings: encode([text])"
        )
    for row, text in enumerate(texts, first):
        if not isinstance(text, str):
            raise ModernPubMedError(
                f"is {type(text).__name__}, not a string",
                record=f"text {row}",
                remedy="give strings only",
            )
    return texts


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
