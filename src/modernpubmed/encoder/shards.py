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
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, Literal, Protocol, Self, get_args

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


class Fingerprinted(Protocol):
    """What a folder of vectors says of the encoder that made them."""

    name: str

    @property
    def fingerprint(self) -> str:
        """See ``Encoder.fingerprint``."""
        ...


class _StreamEncoder(Fingerprinted, Protocol):
    truncated: int
    cut_tokens: int

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
    folder = ShardFolder.open(
        encoder,
        out,
        texts,
        ids=ids,
        prompt=prompt,
        dtype=dtype,
        format=format,
        shard_rows=shard_rows,
    )
    source = iter(texts)
    clock = Clock(total, progress)
    start = 0
    for index in count():
        if (rows := folder.rows(index)) is not None:
            folder.check(index, source)
            clock.skip(rows)
            start += rows
            continue
        if (first := next(source, None)) is None:
            break
        before = encoder.truncated, encoder.cut_tokens
        note = Note()
        blocks = []
        for block in encoder.encode_stream(
            note.passing(chain([first], islice(source, shard_rows - 1)), ids=ids),
            prompt=prompt,
            batch_size=batch_size,
            dtype=dtype,
            first=start,
        ):
            blocks.append(block)
            clock.add(len(block))
        vectors = np.concatenate(blocks)
        folder.add(
            index,
            start,
            vectors,
            note,
            truncated=encoder.truncated - before[0],
            cut_tokens=encoder.cut_tokens - before[1],
        )
        start += len(vectors)
    return folder.finish()


def read_vectors(folder: str | Path) -> NDArray[Any]:
    """All vectors of a folder that ``encode_to`` finished, ``[n, d]``, in the order of the texts.

    Raises:
        ModernPubMedError: There is no such folder, or its vectors are not all there yet.
    """
    path = Path(folder)
    manifest = Manifest.read(path)
    return np.concatenate([_read(path / name) for name in manifest.inputs])


class Clock:
    """Counts texts and reports them; the rate is of those computed now."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self._done = self._computed = 0
        self._start = time.monotonic()

    def skip(self, rows: int) -> None:
        """Texts whose vectors are there already."""
        self._done += rows

    def add(self, rows: int) -> None:
        """Texts that were computed just now."""
        self._done += rows
        self._computed += rows
        if self._progress is not None:
            seconds = max(time.monotonic() - self._start, 1e-9)
            self._progress(self._done, self._total, self._computed / seconds)


class Note:
    """What is kept of a shard's texts while they pass: their digest and their ids."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.names: list[str] = []

    def passing(self, rows: Iterable[Any], *, ids: bool) -> Iterator[str]:
        """The texts of rows, which are pairs of id and text if there are ``ids``."""
        for row in rows:
            name, text = row if ids else ("", row)
            if isinstance(text, str):
                # With its length: two texts are never taken for one.
                self.digest.update(f"{len(name)} {len(text)}\n{name}{text}".encode())
            self.names.append(str(name))
            yield text


class ShardFolder:
    """A folder of shards in the making, whoever computes the vectors; ``open`` makes one.

    Shards are numbered from 0, and may come in any order: what is missing is missing.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], shards: Mapping[int, _Shard]
    ) -> None:
        self._folder, self._settings, self._shards = folder, settings, dict(shards)

    @classmethod
    def open(
        cls,
        encoder: Fingerprinted,
        out: str | Path,
        texts: Iterable[Any],
        *,
        ids: bool,
        prompt: str,
        dtype: str,
        format: str,  # noqa: A002
        shard_rows: int,
    ) -> Self:
        """A folder with what an earlier call left whole in it; what it left unfinished goes.

        Raises:
            ModernPubMedError: As ``encode_to``, but for what is wrong with a text.
        """
        if isinstance(texts, str):
            raise ModernPubMedError(
                "encode_to was given one string",
                remedy="give a list of strings, or a stream of them",
            )
        _check(ids=ids, dtype=dtype, format=format, shard_rows=shard_rows)
        settings = {
            "model": encoder.name,
            "fingerprint": encoder.fingerprint,
            "prompt": prompt,
            "dtype": dtype,
            "format": format,
            "ids": ids,
            "shard_rows": shard_rows,
        }
        folder = Path(out)
        shards = _finished(folder, settings)
        for rest in _unfinished(folder):
            shutil.rmtree(rest)
        _write_state(folder, settings, shards)  # before the first shard: whose folder this is
        return cls(folder, settings, shards)

    def rows(self, index: int) -> int | None:
        """Texts of a shard; None if it is missing."""
        shard = self._shards.get(index)
        return None if shard is None else shard.rows

    def check(self, index: int, source: Iterator[Any]) -> None:
        """Reads the texts of a shard that is there, and refuses others."""
        shard, note = self._shards[index], Note()
        rows = sum(1 for _ in note.passing(islice(source, shard.rows), ids=self._ids))
        if rows != shard.rows or note.digest.hexdigest() != shard.texts:
            raise self._other_texts(shard.file)

    def add(
        self,
        index: int,
        first: int,
        vectors: NDArray[Any],
        note: Note,
        *,
        truncated: int,
        cut_tokens: int,
    ) -> None:
        """Writes a shard, whole, and then its line in ``shards.json``.

        Args:
            index: Its number.
            first: The place of its first text.
            vectors: One a text.
            note: What its texts left when they passed.
            truncated: Texts that were cut.
            cut_tokens: Tokens that they lost.
        """
        path = self._folder / _name(index, self._settings["format"])
        names = note.names if self._ids else range(first, first + len(vectors))
        with replacing(path) as temporary:
            _write(temporary, vectors, names)
        self._shards[index] = _Shard(
            path.name, len(vectors), note.digest.hexdigest(), sha256(path), truncated, cut_tokens
        )
        _write_state(self._folder, self._settings, self._shards)

    def finish(self) -> Manifest:
        """The manifest, written where there is none yet."""
        if not self._shards:
            shutil.rmtree(self._folder)
            raise ModernPubMedError("no texts", file=self._folder, remedy="give one text or more")
        shards = [shard for _, shard in sorted(self._shards.items())]
        if len(shards) <= max(self._shards):  # the texts ended before those of the last
            raise self._other_texts(shards[-1].file)
        manifest = Manifest(
            kind="vectors",
            inputs={shard.file: shard.vectors for shard in shards},
            settings=self._settings,
            counts={
                "texts": sum(shard.rows for shard in shards),
                "shards": len(shards),
                "truncated": sum(shard.truncated for shard in shards),
                "cut_tokens": sum(shard.cut_tokens for shard in shards),
            },
        )
        if not (self._folder / MANIFEST_NAME).exists():
            manifest.write(self._folder / MANIFEST_NAME)
        return manifest

    def _other_texts(self, file: str) -> ModernPubMedError:
        return ModernPubMedError(
            "vectors of other texts lie here",
            file=self._folder,
            record=file,
            remedy="give the same texts in the same order, or another folder",
        )

    @property
    def _ids(self) -> bool:
        return bool(self._settings["ids"])


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


def _name(index: int, format: str) -> str:  # noqa: A002
    return f"vectors-{index:05}.{format}"


def _finished(folder: Path, settings: Mapping[str, Any]) -> dict[int, _Shard]:
    """The shards that a call with these settings left whole."""
    state = folder / STATE_NAME
    if not state.is_file():
        if folder.exists() and (not folder.is_dir() or set(folder.iterdir()) - _unfinished(folder)):
            raise ModernPubMedError(
                "there is something else than vectors", file=folder, remedy="give another path"
            )
        return {}
    try:
        found = json.loads(state.read_text())
        shards = [_Shard(**shard) for shard in found["shards"]]
        numbers = [int(shard.file.partition("-")[2].partition(".")[0]) for shard in shards]
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
    return dict(zip(numbers, shards, strict=True))


def _unfinished(folder: Path) -> set[Path]:
    """What a killed run was writing (``replacing`` names it after the file it was to be)."""
    names = ("vectors-*", STATE_NAME, MANIFEST_NAME)
    return {path for name in names for path in folder.glob(f".{name}.*") if path.is_dir()}


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


def _write_state(folder: Path, settings: Mapping[str, Any], shards: Mapping[int, _Shard]) -> None:
    lines = [asdict(shard) for _, shard in sorted(shards.items())]
    state = {"settings": settings, "shards": lines}
    with replacing(folder / STATE_NAME) as temporary:
        temporary.write_text(json.dumps(state, indent=2) + "\n")
