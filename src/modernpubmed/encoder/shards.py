"""Vectors of very many texts, written as they come: shards that a killed run goes on from.

A shard gets its name when it is whole, and ``shards.json`` gets a line for it after that. The same
call again reads the texts from the start, checks by their SHA-256 that those of the finished
shards are still the same, and computes only what is missing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from modernpubmed.encoder.precision import VECTOR_TYPES, VectorType
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import MANIFEST_NAME, Manifest, replacing, sha256

#: What a shard is written as: NumPy's own format, or an Arrow file of ``id`` and ``vector``.
ShardFormat = Literal["npy", "arrow"]
SHARD_FORMATS: tuple[ShardFormat, ...] = get_args(ShardFormat)

#: Rows of a shard: 25 MB of 384 float32 numbers each.
SHARD_ROWS = 16_384
STATE_NAME = "shards.json"

#: What reports progress: texts done, of how many (0 where nobody knows), texts a second.
Progress = Callable[[int, int, float], None]


class _StreamEncoder(Protocol):
    name: str
    truncated: int
    cut_tokens: int

    @property
    def fingerprint(self) -> str: ...
    def encode_stream(
        self, texts: Iterable[str], *, prompt: str, batch_size: int, dtype: VectorType, first: int
    ) -> Iterator[NDArray[Any]]: ...


@dataclass(frozen=True, slots=True)
class _Shard:
    """A finished shard, as ``shards.json`` has it."""

    file: str
    rows: int
    texts: str
    vectors: str
    truncated: int
    cut_tokens: int


def encode_to(
    encoder: _StreamEncoder,
    out: str | Path,
    texts: Iterable[str] | Iterable[tuple[str, str]],
    *,
    ids: bool = False,
    prompt: str = "",
    batch_size: int = 32,
    dtype: VectorType = "float32",
    format: ShardFormat = "npy",  # noqa: A002
    shard_rows: int = SHARD_ROWS,
    total: int = 0,
    progress: Progress | None = None,
) -> Manifest:
    """Writes the vectors of any number of texts to a folder, in memory that does not grow.

    The folder gets ``vectors-00000.npy``, ``vectors-00001.npy`` … (or ``.arrow``), ``shards.json``
    with what is in them, and, when all is done, ``manifest.json``.

    Args:
        encoder: What turns texts into vectors.
        out: The folder. If a call with the same texts and settings was stopped here, this one
            goes on from its last whole shard.
        texts: The texts, or pairs of id and text; read once, in order.
        ids: ``texts`` are pairs; only with ``arrow``.
        prompt: Put before every text.
        batch_size: Most texts a call of the model.
        dtype: What the numbers are stored as, see ``Encoder.encode``.
        format: ``npy``: an array ``[rows, d]`` a shard. ``arrow``: an Arrow file with the columns
            ``id`` (string; the row from 0 where there are no ids, int64) and ``vector``
            (fixed-size list; uint8 for ``binary``).
        shard_rows: Texts a shard.
        total: How many texts there will be, if known, for the progress.
        progress: Called after each block of texts.

    Returns:
        The manifest: ``texts``, ``shards``, ``truncated`` and ``cut_tokens`` are its counts.

    Raises:
        ModernPubMedError: The folder holds something else, or vectors of other texts or settings;
            a shard in it is damaged; there are ids and the format is ``npy``; or as
            ``Encoder.encode``, with the text's place.
    """
    if isinstance(texts, str):
        raise ModernPubMedError(
            "encode_to was given one string", remedy="give a list of strings, or a stream of them"
        )
    _check(ids=ids, dtype=dtype, format=format, shard_rows=shard_rows)
    folder = Path(out)
    settings = {
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "prompt": prompt,
        "dtype": dtype,
        "format": format,
        "ids": ids,
        "shard_rows": shard_rows,
    }
    shards = _finished(folder, settings)
    for rest in _unfinished(folder):
        shutil.rmtree(rest)
    _write_state(folder, settings, shards)  # before the first shard: whose folder this is
    source = iter(texts)
    clock = _Clock(total, progress)
    for shard in shards:
        _skip(source, shard, folder, ids=ids)
        clock.skip(shard.rows)
    while (first := next(source, None)) is not None:
        start = sum(shard.rows for shard in shards)
        name = f"vectors-{len(shards):05}.{format}"
        rows = chain([first], islice(source, shard_rows - 1))
        before = encoder.truncated, encoder.cut_tokens
        digest = hashlib.sha256()
        names: list[str] = []
        blocks = []
        for block in encoder.encode_stream(
            _noted(rows, digest, names, ids=ids),
            prompt=prompt,
            batch_size=batch_size,
            dtype=dtype,
            first=start,
        ):
            blocks.append(block)
            clock.add(len(block))
        vectors = np.concatenate(blocks)
        with replacing(folder / name) as temporary:
            _write(temporary, vectors, names if ids else range(start, start + len(vectors)))
        shards.append(
            _Shard(
                name,
                len(vectors),
                digest.hexdigest(),
                sha256(folder / name),
                encoder.truncated - before[0],
                encoder.cut_tokens - before[1],
            )
        )
        _write_state(folder, settings, shards)
    if not shards:
        shutil.rmtree(folder)
        raise ModernPubMedError("no texts", file=folder, remedy="give one text or more")
    manifest = Manifest(
        kind="vectors",
        inputs={shard.file: shard.vectors for shard in shards},
        settings=settings,
        counts={
            "texts": sum(shard.rows for shard in shards),
            "shards": len(shards),
            "truncated": sum(shard.truncated for shard in shards),
            "cut_tokens": sum(shard.cut_tokens for shard in shards),
        },
    )
    if not (folder / MANIFEST_NAME).exists():
        manifest.write(folder / MANIFEST_NAME)
    return manifest


def read_vectors(folder: str | Path) -> NDArray[Any]:
    """All vectors of a folder that ``encode_to`` finished, ``[n, d]``, in the order of the texts.

    Raises:
        ModernPubMedError: There is no such folder, or its vectors are not all there yet.
    """
    path = Path(folder)
    manifest = Manifest.read(path)
    return np.concatenate([_read(path / name) for name in manifest.inputs])


class _Clock:
    """Counts texts and reports them; the rate is of those computed now."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self._done = self._computed = 0
        self._start = time.monotonic()

    def skip(self, rows: int) -> None:
        self._done += rows

    def add(self, rows: int) -> None:
        self._done += rows
        self._computed += rows
        if self._progress is not None:
            seconds = max(time.monotonic() - self._start, 1e-9)
            self._progress(self._done, self._total, self._computed / seconds)


def _check(*, ids: bool, dtype: str, format: str, shard_rows: int) -> None:  # noqa: A002
    if dtype not in VECTOR_TYPES or format not in SHARD_FORMATS:
        raise ModernPubMedError(
            f"no vectors of {dtype!r} in {format!r}",
            remedy=f"give {', '.join(VECTOR_TYPES)}, and {' or '.join(SHARD_FORMATS)}",
        )
    if ids and format != "arrow":
        raise ModernPubMedError("ids have no place in .npy files", remedy="give format='arrow'")
    if shard_rows < 1:
        raise ModernPubMedError(f"shard_rows is {shard_rows}", remedy="give 1 or more")


def _finished(folder: Path, settings: Mapping[str, Any]) -> list[_Shard]:
    """The shards that a call with these settings left whole."""
    state = folder / STATE_NAME
    if not state.is_file():
        if folder.exists() and (not folder.is_dir() or set(folder.iterdir()) - _unfinished(folder)):
            raise ModernPubMedError(
                "there is something else than vectors", file=folder, remedy="give another path"
            )
        return []
    try:
        found = json.loads(state.read_text())
        shards = [_Shard(**shard) for shard in found["shards"]]
        other = sorted(key for key in settings if found["settings"].get(key) != settings[key])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModernPubMedError(
            f"cannot be read ({error})", file=state, remedy="delete the folder, or give another"
        ) from error
    if other:
        raise ModernPubMedError(
            "vectors made with other settings lie here",
            file=folder,
            record=", ".join(other),
            remedy="give the same settings, or another folder",
        )
    for shard in shards:
        path = folder / shard.file
        if not path.is_file() or sha256(path) != shard.vectors:
            raise ModernPubMedError(
                "is missing or has changed since it was written",
                file=path,
                remedy="delete the folder and encode again",
            )
    return shards


def _unfinished(folder: Path) -> set[Path]:
    """What a killed run was writing (``replacing`` names it after the file it was to be)."""
    names = ("vectors-*", STATE_NAME, MANIFEST_NAME)
    return {path for name in names for path in folder.glob(f".{name}.*") if path.is_dir()}


def _noted(
    rows: Iterable[Any], digest: hashlib._Hash, names: list[str], *, ids: bool
) -> Iterator[str]:
    """The texts; their digest and ids are kept as they pass."""
    for row in rows:
        name, text = row if ids else ("", row)
        if isinstance(text, str):
            # With its length: two texts are never taken for one.
            digest.update(f"{len(name)} {len(text)}\n{name}{text}".encode())
        names.append(str(name))
        yield text


def _skip(source: Iterator[Any], shard: _Shard, folder: Path, *, ids: bool) -> None:
    digest = hashlib.sha256()
    count = sum(1 for _ in _noted(islice(source, shard.rows), digest, [], ids=ids))
    if count != shard.rows or digest.hexdigest() != shard.texts:
        raise ModernPubMedError(
            "vectors of other texts lie here",
            file=folder,
            record=shard.file,
            remedy="give the same texts in the same order, or another folder",
        )


def _write(path: Path, vectors: NDArray[Any], names: Iterable[str] | range) -> None:
    if path.suffix == ".npy":
        with path.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
        return
    import pyarrow as pa  # here: encoding alone does not wait for it

    ids = pa.array(names, pa.int64() if isinstance(names, range) else pa.string())
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    table = pa.table(
        {"id": ids, "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])}
    )
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _read(path: Path) -> NDArray[Any]:
    import pyarrow as pa

    try:
        if path.suffix == ".npy":
            array: NDArray[Any] = np.load(path, allow_pickle=False)
            return array
        with pa.memory_map(str(path)) as file:
            column = pa.ipc.open_file(file).read_all()["vector"].combine_chunks()
            width = column.type.list_size
            flat: NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False)
            return flat.reshape(-1, width).copy()
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise ModernPubMedError(
            f"cannot be read ({error})", file=path, remedy="encode again"
        ) from error


def _write_state(folder: Path, settings: Mapping[str, Any], shards: list[_Shard]) -> None:
    state = {"settings": settings, "shards": [asdict(shard) for shard in shards]}
    with replacing(folder / STATE_NAME) as temporary:
        temporary.write_text(json.dumps(state, indent=2) + "\n")
