"""Running an exported graph with onnxruntime: token ids in, pooled unit vectors out.

A graph that ``modernpubmed export`` made holds no weights of its own but points into
``model.safetensors`` (ONNX external data), so that a folder carries them once. The price is that
graph and weights must belong together: the graph records the weights' SHA-256, checked on loading.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from modernpubmed.encoder.batches import token_batches
from modernpubmed.encoder.folder import WEIGHTS_NAME, ModelFolder
from modernpubmed.encoder.pooling import POOLING_MODES, normalize
from modernpubmed.encoder.threads import usable_threads
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import sha256

#: Texts that are tokenised, sorted by length and computed before the next ones are.
_BLOCK = 1024
#: Most tokens a call, padding included: what a processor's cache holds the activations of.
_BATCH_TOKENS = 4096

#: The graph's metadata entry with the SHA-256 of the weights it points into.
WEIGHTS_KEY = "weights_sha256"


@dataclass(frozen=True, slots=True)
class GraphModel:
    """An onnxruntime session with its tokenizer.

    Attributes:
        folder: The model's settings.
        session: The loaded graph.
        tokenizer: Cuts to ``max_tokens`` and reports what it cut.
        max_tokens: The length in force.
        dimension: d of its vectors.
        fingerprint: SHA-256 of all that decides its vectors: graph (and through it weights),
            tokenizer, pooling and length.
    """

    folder: ModelFolder
    session: onnxruntime.InferenceSession
    tokenizer: Tokenizer
    max_tokens: int
    dimension: int
    fingerprint: str

    def embed(
        self, texts: Sequence[str], batch_size: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Unit vectors ``[n, d]`` and how many tokens of each of the n texts were cut."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        cut = np.zeros(len(texts), dtype=np.int64)
        starts = range(0, len(texts), _BLOCK)
        # The next block is tokenised while this one is computed; both leave Python's lock alone.
        with ThreadPoolExecutor(1) as ahead:
            following = ahead.submit(self._tokens, texts[:_BLOCK])
            for start in starts:
                encodings = following.result()
                if start + _BLOCK < len(texts):
                    rest = texts[start + _BLOCK : start + 2 * _BLOCK]
                    following = ahead.submit(self._tokens, rest)
                lengths = np.fromiter(map(len, encodings), np.int64, len(encodings))
                for rows in token_batches(lengths, max_texts=batch_size, max_tokens=_BATCH_TOKENS):
                    vectors[start + rows] = self._run([encodings[row] for row in rows])
                cut[start : start + len(encodings)] = cut_tokens(self.tokenizer, encodings)
        return vectors, cut

    def _tokens(self, texts: Sequence[str]) -> list[Encoding]:
        if self.folder.lower_case:
            texts = [text.lower() for text in texts]
        return list(self.tokenizer.encode_batch_fast(list(texts)))

    def _run(self, encodings: Sequence[Encoding]) -> NDArray[np.float32]:
        length = max(len(encoding) for encoding in encodings)
        ids = np.zeros((len(encodings), length), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding)] = encoding.ids
            mask[row, : len(encoding)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        names = {node.name for node in self.session.get_inputs()}
        tokens = self.session.run(None, {k: v for k, v in feed.items() if k in names})[0]
        pooled = POOLING_MODES[self.folder.pooling](
            tokens.astype(np.float32, copy=False), mask.astype(np.float32)
        )
        return normalize(pooled)


def cut_tokens(tokenizer: Tokenizer, encodings: Sequence[Encoding]) -> NDArray[np.int64]:
    """How many tokens of each text the tokenizer cut off, special ones not counted."""
    special = tokenizer.num_special_tokens_to_add(is_pair=False)
    cut = (sum(len(part) - special for part in one.overflowing) for one in encodings)
    return np.fromiter(cut, np.int64, len(encodings))


def load_graph(folder: ModelFolder, *, max_tokens: int | None, threads: int | None) -> GraphModel:
    """Loads the graph of a folder.

    Raises:
        ModernPubMedError: The graph or the tokenizer is broken, or the graph belongs to other
            weights than the ones beside it.
    """
    if folder.graph is None:
        raise ModernPubMedError("has no graph", file=folder.path, remedy="modernpubmed export")
    session = _session(folder.graph, threads)
    checked = session.get_modelmeta().custom_metadata_map.get(WEIGHTS_KEY)
    if checked is not None and checked != sha256(folder.graph.with_name(WEIGHTS_NAME)):
        raise ModernPubMedError(
            f"was exported from other weights than the {WEIGHTS_NAME} beside it",
            file=folder.graph,
            remedy=f"modernpubmed export {folder.path}",
        )
    limit = folder.max_tokens if max_tokens is None else min(max_tokens, folder.max_tokens)
    tokenizer = load_tokenizer(folder.path, limit)
    dimension = session.get_outputs()[0].shape[-1]
    if not isinstance(dimension, int):
        raise ModernPubMedError(
            "does not say the dimension of its vectors",
            file=folder.graph,
            remedy=f"modernpubmed export {folder.path}",
        )
    if folder.dimension is not None and folder.dimension != dimension:
        raise ModernPubMedError(
            f"gives vectors of {dimension} numbers, where its folder says {folder.dimension}",
            file=folder.graph,
            remedy="copy the model folder again, whole",
        )
    parts = (sha256(folder.graph), sha256(folder.path / "tokenizer.json"), folder.pooling, limit)
    fingerprint = hashlib.sha256(repr(parts).encode()).hexdigest()
    return GraphModel(folder, session, tokenizer, limit, dimension, fingerprint)


def load_tokenizer(path: Path, max_tokens: int) -> Tokenizer:
    """The folder's tokenizer, cutting at ``max_tokens`` and padding nothing.

    Raises:
        ModernPubMedError: ``tokenizer.json`` is missing or broken.
    """
    file = path / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModernPubMedError(
            f"not a readable tokenizer ({error})", file=file, remedy="copy the folder again"
        ) from error
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    return tokenizer


def _session(graph: Path, threads: int | None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = usable_threads() if threads is None else threads
    # Threads that spin while they wait take the processor from everything else on a busy machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
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
            f"onnxruntime cannot load it ({error})",
            file=graph,
            remedy=f"modernpubmed export {graph.parent}",
        ) from error
