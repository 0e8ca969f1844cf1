"""Running an exported graph with onnxruntime: token ids in, pooled unit vectors out.

A graph that ``modernpubmed export`` made holds its large weights not itself but points into
``model.safetensors`` (ONNX external data), so that a folder carries them once. The price is that
graph and weights must belong together: the graph records the weights' SHA-256, checked on loading,
as are the vectors of a few stored texts (``probes.py``).

How the time goes (measured, see ``docs/encoding.md``): texts of one length are computed together,
so nothing is padded; a few hundred tokens a call keep the activations in the processor's cache;
each thread computes a batch of its own, so none waits for another; and the next texts are
tokenised meanwhile. Given up: a single text is not spread over threads.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from modernpubmed.encoder.batches import equal_batches
from modernpubmed.encoder.folder import TOKENIZER_NAME, WEIGHTS_NAME, ModelFolder, read_tokenizer
from modernpubmed.encoder.pooling import POOLING_MODES, normalize
from modernpubmed.encoder.probes import DriftError, check_probes, read_probes
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import sha256
from modernpubmed.threads import usable_threads

#: Which of a folder's graphs runs: ``auto`` is the int8 graph where there is one.
Precision = Literal["auto", "float32", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

#: Texts that are tokenised, sorted by length and computed before the next ones are.
_BLOCK = 1024
#: Texts handed to the tokenizer at a time: what it returns takes a hundred bytes and more a token.
_TOKENISED = 128
#: Most tokens a call: what a core's cache holds the activations of.
_BATCH_TOKENS = 256

#: The graph's metadata entry with the SHA-256 of the weights it points into.
WEIGHTS_KEY = "weights_sha256"


@dataclass(frozen=True, slots=True)
class GraphModel:
    """An onnxruntime session with its tokenizer.

    Attributes:
        folder: The model's settings.
        session: The loaded graph; a call computes in the thread that makes it.
        precision: ``float32`` or ``int8``.
        tokenizer: Cuts to ``max_tokens`` and reports what it cut.
        max_tokens: The length in force.
        threads: Batches that are computed at a time.
        dimension: d of its vectors.
        fingerprint: SHA-256 of all that decides its vectors: graph (and through it weights),
            tokenizer, pooling and length.
    """

    folder: ModelFolder
    session: onnxruntime.InferenceSession
    precision: str
    tokenizer: Tokenizer
    max_tokens: int
    threads: int
    dimension: int
    fingerprint: str

    def embed(
        self, texts: Sequence[str], batch_size: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Unit vectors ``[n, d]`` and how many tokens of each of the n texts were cut."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        cut = np.zeros(len(texts), dtype=np.int64)

        def compute(start: int, ids: Sequence[NDArray[np.int64]], rows: NDArray[np.int64]) -> None:
            vectors[start + rows] = self._run(np.stack([ids[row] for row in rows]))

        pool = ThreadPoolExecutor(self.threads)
        computing: list[Future[None]] = []
        try:
            for start in range(0, len(texts), _BLOCK):
                # While this block is tokenised, the one before is computed.
                ids, cut[start : start + _BLOCK] = self._tokens(texts[start : start + _BLOCK])
                lengths = np.fromiter(map(len, ids), np.int64, len(ids))
                batches = equal_batches(lengths, max_texts=batch_size, max_tokens=_BATCH_TOKENS)
                following = [pool.submit(compute, start, ids, rows) for rows in batches]
                for batch in computing:
                    batch.result()
                computing = following
            for batch in computing:
                batch.result()
        finally:
            pool.shutdown(cancel_futures=True)
        return vectors, cut

    def _tokens(self, texts: Sequence[str]) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
        """The token ids of each text, and how many were cut."""
        if self.folder.lower_case:
            texts = [text.lower() for text in texts]
        ids: list[NDArray[np.int64]] = []
        cut = [np.zeros(0, dtype=np.int64)]
        for start in range(0, len(texts), _TOKENISED):
            encodings = self.tokenizer.encode_batch_fast(list(texts[start : start + _TOKENISED]))
            ids += [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]
            cut.append(cut_tokens(self.tokenizer, encodings))
        return ids, np.concatenate(cut)

    def _run(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Unit vectors ``[b, d]`` of texts ``[b, s]`` of one length."""
        mask = np.ones_like(ids)
        tokens = _token_vectors(self.session, ids)
        return normalize(POOLING_MODES[self.folder.pooling](tokens, mask.astype(np.float32)))


def cut_tokens(tokenizer: Tokenizer, encodings: Sequence[Encoding]) -> NDArray[np.int64]:
    """How many tokens of each text the tokenizer cut off, special ones not counted."""
    special = tokenizer.num_special_tokens_to_add(is_pair=False)
    cut = (sum(len(part) - special for part in one.overflowing) for one in encodings)
    return np.fromiter(cut, np.int64, len(encodings))


def load_graph(
    folder: ModelFolder,
    *,
    max_tokens: int | None = None,
    threads: int | None = None,
    precision: Precision = "auto",
) -> GraphModel:
    """Loads a graph of a folder.

    Args:
        folder: The model's settings.
        max_tokens: Cut texts at this length instead of the model's own, if it is shorter.
        threads: Batches that are computed at a time; None takes what the process may use.
        precision: Which graph. With ``auto`` an int8 graph that drifts on this processor (one that
            has no VNNI, say) gives way to the full one.

    Warns:
        UserWarning: It did.

    Raises:
        ModernPubMedError: There is no such graph; the graph or the tokenizer is broken; the graph
            belongs to other weights than the ones beside it, or gives other vectors than it did
            when it was exported.
    """
    if precision == "auto" and folder.graph is not None and folder.int8 is not None:
        try:
            return load_graph(folder, max_tokens=max_tokens, threads=threads, precision="int8")
        except DriftError as drift:
            warnings.warn(f"{drift}; the float32 graph runs instead", stacklevel=3)
            precision = "float32"
    graph = folder.graph if precision == "float32" else folder.int8
    if graph is None and precision == "auto":
        graph = folder.graph
    chosen = "int8" if graph is not None and graph == folder.int8 else "float32"
    remedy = f"modernpubmed export {folder.path}" + " --int8" * ("int8" in (chosen, precision))
    if graph is None:
        raise ModernPubMedError(f"has no {precision} graph", file=folder.path, remedy=remedy)
    session = _session(graph, remedy)
    checked = session.get_modelmeta().custom_metadata_map.get(WEIGHTS_KEY)
    if checked is not None and checked != sha256(graph.with_name(WEIGHTS_NAME)):
        raise ModernPubMedError(
            f"was exported from other weights than the {WEIGHTS_NAME} beside it",
            file=graph,
            remedy=remedy,
        )
    limit = folder.max_tokens if max_tokens is None else min(max_tokens, folder.max_tokens)
    dimension = session.get_outputs()[0].shape[-1]
    if not isinstance(dimension, int):
        raise ModernPubMedError(
            "does not say the dimension of its vectors", file=graph, remedy=remedy
        )
    if folder.dimension is not None and folder.dimension != dimension:
        raise ModernPubMedError(
            f"gives vectors of {dimension} numbers, where its folder says {folder.dimension}",
            file=graph,
            remedy="copy the model folder again, whole",
        )
    tokenizer = load_tokenizer(folder.path, limit)
    parts = (sha256(graph), sha256(folder.path / TOKENIZER_NAME), folder.pooling, limit)
    model = GraphModel(
        folder=folder,
        session=session,
        precision=chosen,
        tokenizer=tokenizer,
        max_tokens=limit,
        threads=usable_threads() if threads is None else threads,
        dimension=dimension,
        fingerprint=hashlib.sha256(repr(parts).encode()).hexdigest(),
    )
    _check(model, graph)
    return model


def load_tokenizer(path: Path, max_tokens: int) -> Tokenizer:
    """The folder's tokenizer, cutting at ``max_tokens`` and padding nothing.

    Raises:
        ModernPubMedError: ``tokenizer.json`` is missing or broken.
    """
    tokenizer = read_tokenizer(path)
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    return tokenizer


def _check(model: GraphModel, graph: Path) -> None:
    """Asks the graph for the folder's probes, where it has some, cut as they were stored."""
    probes = read_probes(model.folder.path)
    if probes is None:
        return
    model.tokenizer.enable_truncation(probes.max_tokens)
    ids = {text: model.tokenizer.encode(text).ids for text in probes.texts}
    model.tokenizer.enable_truncation(model.max_tokens)
    check_probes(
        probes,
        lambda text: _token_vectors(model.session, np.array([ids[text]], dtype=np.int64))[0],
        graph=graph,
        precision=model.precision,
    )


def _token_vectors(
    session: onnxruntime.InferenceSession, ids: NDArray[np.int64]
) -> NDArray[np.float32]:
    """float32 ``[b, s, d]`` of token ids ``[b, s]`` without padding."""
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    names = [node.name for node in session.get_inputs()]
    if "token_type_ids" in names:
        feed["token_type_ids"] = np.zeros_like(ids)
    tokens = session.run(None, {name: feed[name] for name in names})[0]
    vectors: NDArray[np.float32] = tokens.astype(np.float32, copy=False)
    return vectors


def _session(graph: Path, remedy: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    weights = graph.with_name(WEIGHTS_NAME)
    try:
        if weights.is_symlink() or graph.is_symlink():
            # The hub's cache is a folder of links, and onnxruntime follows none out of it.
            data = weights.read_bytes() if weights.is_file() else b""
            if data:
                options.add_external_initializers_from_files_in_memory(
                    [WEIGHTS_NAME], [data], [len(data)]
                )
            return onnxruntime.InferenceSession(
                graph.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        return onnxruntime.InferenceSession(
            os.fspath(graph), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's own exceptions share no base
        raise ModernPubMedError(
            f"onnxruntime cannot load it ({error})", file=graph, remedy=remedy
        ) from error
