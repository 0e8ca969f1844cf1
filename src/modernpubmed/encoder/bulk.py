"""Vectors of very many texts by many machines: the folder of ``shards.py``, computed with Ray Data.

Who does what:

- The *driver*, this process, alone reads the texts and writes the shards. So no machine but its own
  needs to see the input or the output, there is one writer, and the folder is that of
  ``encode_to``, to the byte: either goes on with what the other began.
- A shard is computed in *units*. The data set that Ray Data maps over holds nothing but their
  numbers; the *workers*, actors that load the model once, fetch a unit's texts from the driver's
  machine. What a lost machine had in hand Ray gives to another, by its number: nothing is lost, and
  what came already is not taken again.
- Units come in any order, and a shard is written when its last one is there: where a cluster that
  lost a machine has no room for the workers that it must start anew, those two units a worker wait
  until the others are done, and keep nobody else waiting.
- The texts under way lie with an actor on the driver's machine until their vectors are there. The
  driver reads on when a worker asks, so memory is bounded by the work in hand.
- Ray Data itself runs in an actor, since a driver outside of the cluster (``ray://``) cannot run
  it, and because its settings and its log are then not those of the calling process.

Given up: vectors of shards that are not whole are lost with the driver.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import platform
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modernpubmed.cluster import LOCAL, connected, import_ray, last_line
from modernpubmed.encoder.encoder import SHIPPED_MODEL, Encoder
from modernpubmed.encoder.precision import VectorType
from modernpubmed.encoder.shards import (
    SHARD_ROWS,
    Clock,
    Note,
    Progress,
    ShardFolder,
    ShardFormat,
)
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest
from modernpubmed.threads import usable_threads

#: Texts a unit: what a graph sorts by length at a time, so batches, and with them bits, are those
#: of a run without Ray; half a minute of work for a core.
_UNIT = 1024
#: Units read before a worker asks for them.
_AHEAD = 2
#: Bytes of shared memory of a local cluster: units of vectors on their way, some MB each.
_STORE = 512 << 20


@dataclass(frozen=True, slots=True)
class _Unit:
    """Consecutive texts of a shard; ``first`` is the place of the first one of them all."""

    number: int
    shard: int
    first: int
    rows: int


_Plan = dict[int, list[_Unit]]


@dataclass(frozen=True, slots=True)
class _Job:
    """What a worker needs to know, the same for all."""

    source: str | None
    loading: Mapping[str, Any]
    packed: Any
    name: str
    fingerprint: str
    cpus: int
    prompt: str
    batch_size: int
    dtype: VectorType


def encode_with_ray(
    model: str | Path | None,
    out: str | Path,
    texts: Iterable[str] | Iterable[tuple[str, str]],
    *,
    total: int,
    address: str = LOCAL,
    cpus: int = 1,
    loading: Mapping[str, Any] | None = None,
    ids: bool = False,
    prompt: str = "",
    batch_size: int = 32,
    dtype: VectorType = "float32",
    format: ShardFormat = "npy",  # noqa: A002
    shard_rows: int = SHARD_ROWS,
    progress: Progress | None = None,
) -> Manifest:
    """Does what ``encode_to`` does, with the processors of a Ray cluster.

    Every machine needs this version of modernpubmed with the extra ``scale``. The model is sent to
    those that do not have it at the same path. A connection to a cluster that is there already
    (``ray.is_initialized()``) is used, whatever the address, and stays.

    Args:
        model: As ``source`` in ``Encoder.load``.
        out: As in ``encode_to``; a path of this machine.
        texts: As in ``encode_to``; read once, in order, as the workers ask.
        total: How many texts there are.
        address: ``local`` for a cluster of this machine's processors that ends with the call;
            ``auto``, ``host:port`` or ``ray://host:port`` for one that runs.
        cpus: Processors of a worker, and its threads. As many workers as the cluster has room for.
        loading: What else ``Encoder.load`` is given, but for ``threads``.
        ids: As in ``encode_to``, and so are the following.
        prompt: Put before every text.
        batch_size: Most texts a call of the model.
        dtype: What the numbers are stored as.
        format: What a shard is written as.
        shard_rows: Texts a shard.
        progress: Called after each unit of texts.

    Returns:
        The manifest, as ``encode_to``.

    Raises:
        MissingExtraError: The extra ``scale`` is not installed.
        ModernPubMedError: As ``encode_to``; there are not ``total`` texts; there is no cluster at
            ``address``, or it failed; a machine cannot load the model, or gets other vectors.
    """
    if cpus < 1:
        raise ModernPubMedError(f"cpus is {cpus}", remedy="give 1 or more")
    ray = import_ray(address, "encoding on many machines")
    loading = {**(loading or {}), "threads": cpus}
    encoder = Encoder.load(model, **loading)
    path = (encoder.folder or SHIPPED_MODEL).resolve()
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
    plan = _plan(folder, total, shard_rows)
    clock = Clock(total, progress)
    if not any(plan.values()):
        _Reader(folder, iter(texts), plan, None, ids=ids).read()
        return folder.finish()
    most = max(1, usable_threads() // cpus)
    # One more than there are: what Ray Data may start beside the workers finds room.
    size = {"num_cpus": most * cpus + 1, "num_gpus": 0, "object_store_memory": _STORE}
    with connected(ray, address, **size) as made:
        workers = most if made and address == LOCAL else None
        job = _Job(
            source=None if model is None else str(path),
            loading=loading,
            packed=None if address == LOCAL else ray.put(_pack(path)),
            name=encoder.name,
            fingerprint=encoder.fingerprint,
            cpus=cpus,
            prompt=prompt,
            batch_size=batch_size,
            dtype=dtype,
        )
        # Both here: no other machine's end can be theirs.
        here = ray.remote(num_cpus=0, scheduling_strategy=_this_node())
        store = here(_Texts).remote()
        results = here(_Results).remote([*chain(*plan.values())], store, job, workers)
        reader = _Reader(folder, iter(texts), plan, store, ids=ids)
        reader.start()
        clock.skip(total - sum(unit.rows for unit in chain(*plan.values())))
        try:
            _write(folder, plan, reader, results, clock)
        except ray.exceptions.RayError as error:
            raise ModernPubMedError(
                f"the cluster failed ({last_line(error)})",
                file=address,
                remedy="the same call again goes on; see Ray's logs if it fails again",
            ) from error
        finally:
            ray.kill(results)
            ray.kill(store)
    return folder.finish()


def _write(folder: ShardFolder, plan: _Plan, reader: _Reader, results: Any, clock: Clock) -> None:
    """Takes the units' vectors as they come, and writes the shards that are whole."""
    import ray

    waiting = {unit.number: unit for unit in chain(*plan.values())}
    rows: dict[int, dict[int, dict[str, Any]]] = {}
    while waiting:
        row = ray.get(results.next.remote())
        if row["error"] is not None:
            # A text that could not be read is the reader's to name.
            raise reader.error or ModernPubMedError(**json.loads(row["error"]))
        unit = waiting.pop(row["number"], None)
        if unit is None:  # computed twice, where a machine was lost that was not quite
            continue
        reader.store.forget.remote(unit.number)
        clock.add(unit.rows)
        there = rows.setdefault(unit.shard, {})
        there[unit.number] = row
        units = plan[unit.shard]
        if len(there) == len(units):
            parts = [there[one.number] for one in units]
            folder.add(
                unit.shard,
                units[0].first,
                np.concatenate([_array(part["vectors"]) for part in parts]),
                reader.notes.pop(unit.shard),
                truncated=sum(part["truncated"] for part in parts),
                cut_tokens=sum(part["cut_tokens"] for part in parts),
            )
            del rows[unit.shard]
    reader.join()
    if reader.error is not None:
        raise reader.error


class _Reader(threading.Thread):
    """Reads the texts and hands them to the store, which makes it wait until they are wanted.

    Attributes:
        notes: By the number of a shard, what is kept of its texts; there before its last unit is.
        error: What ended the reading early.
    """

    def __init__(
        self, folder: ShardFolder, source: Iterator[Any], plan: _Plan, store: Any, *, ids: bool
    ) -> None:
        # A daemon: a source that blocks must not keep a stopped process alive.
        super().__init__(daemon=True)
        self.store = store
        self.notes: dict[int, Note] = {}
        self.error: Exception | None = None
        self._folder, self._source, self._plan, self._ids = folder, source, plan, ids
        self._read = 0

    def run(self) -> None:
        try:
            self.read()
        except Exception as error:  # noqa: BLE001 – raised again by whoever waits for the vectors
            self.error = error
            self.store.end.remote(self._read)

    def read(self) -> None:
        """Reads all texts: those of the shards that are there are checked, the others handed on."""
        import ray

        rows = 0
        for shard, units in self._plan.items():
            if not units:
                self._folder.check(shard, self._source)
                rows += self._folder.rows(shard) or 0
                continue
            note = self.notes[shard] = Note()
            for unit in units:
                texts = list(note.passing(islice(self._source, unit.rows), ids=self._ids))
                rows += len(texts)
                if len(texts) < unit.rows:
                    raise ModernPubMedError(
                        f"the texts end after {rows:,}, before the total that was given",
                        remedy="count them again",
                    )
                ray.get(self.store.put.remote(unit.number, texts))
                self._read += 1
        if next(self._source, None) is not None:
            raise ModernPubMedError(
                f"there are more texts than the {rows:,} that were announced",
                remedy="count them again",
            )


class _Texts:
    """An actor: the texts of the units under way."""

    def __init__(self) -> None:
        self._units: dict[int, list[str]] = {}
        self._asked = -1
        self._end: int | None = None
        self._change = asyncio.Condition()

    async def put(self, number: int, texts: list[str]) -> None:
        """Takes a unit; returns when it is time for the next one."""
        async with self._change:
            self._units[number] = texts
            self._change.notify_all()
            await self._change.wait_for(lambda: number < self._asked + _AHEAD)

    async def take(self, number: int) -> list[str] | None:
        """A unit's texts, when they are there; None if they will never be."""
        async with self._change:
            self._asked = max(self._asked, number)
            self._change.notify_all()
            await self._change.wait_for(
                lambda: number in self._units or (self._end is not None and number >= self._end)
            )
            return self._units.get(number)

    async def forget(self, number: int) -> None:
        """Drops a unit whose vectors the driver has."""
        self._units.pop(number, None)

    async def end(self, number: int) -> None:
        """Says that this unit and those after it will not come."""
        async with self._change:
            self._end = number
            self._change.notify_all()


class _Results:
    """An actor: runs Ray Data and gives what the workers computed, a unit a call."""

    def __init__(self, units: Sequence[_Unit], store: Any, job: _Job, workers: int | None) -> None:
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        numbers = ray.data.from_items(
            [{"number": unit.number, "first": unit.first} for unit in units],
            override_num_blocks=len(units),  # a block is what is computed, and lost, at a time
        )
        vectors = numbers.map_batches(
            _Worker,
            fn_constructor_args=(store, job),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                min_size=1, max_size=workers, max_tasks_in_flight_per_actor=2
            ),
            num_cpus=job.cpus,
        )
        self._units = iter(vectors.iter_batches(batch_size=None, batch_format="pyarrow"))

    def next(self) -> dict[str, Any]:
        """The next unit's row, as ``_Worker`` made it."""
        [unit] = next(self._units).to_pylist()
        return dict(unit)


class _Worker:
    """An actor: the model, loaded once, and what it makes of units."""

    def __init__(self, store: Any, job: _Job) -> None:
        # The tokenizer would take all of the machine's cores.
        os.environ["RAYON_NUM_THREADS"] = str(job.cpus)
        self._store, self._job = store, job
        self._encoder: Encoder | ModernPubMedError
        try:
            self._encoder = _load(job)
        except ModernPubMedError as error:
            # Said with the first unit: an actor that cannot start would be started again.
            self._encoder = error

    def __call__(self, batch: Any) -> Any:
        """One row for the one row of a unit: its vectors, or why there are none."""
        import pyarrow as pa
        import ray

        [unit] = batch.to_pylist()
        row = {"number": unit["number"], "vectors": b"", "truncated": 0, "cut_tokens": 0}
        texts = ray.get(self._store.take.remote(unit["number"]))
        try:
            row |= self._computed(texts, unit["first"])
            error = None
        except ModernPubMedError as refusal:
            error = json.dumps(refusal.parts())
        return pa.Table.from_pylist([row | {"error": error}], schema=_schema())

    def _computed(self, texts: list[str] | None, first: int) -> dict[str, Any]:
        if isinstance(self._encoder, ModernPubMedError):
            raise self._encoder
        if texts is None:
            raise ModernPubMedError("the texts broke off", record=f"text {first}")
        encoder, job = self._encoder, self._job
        before = encoder.truncated, encoder.cut_tokens
        blocks = encoder.encode_stream(
            texts, prompt=job.prompt, batch_size=job.batch_size, dtype=job.dtype, first=first
        )
        with io.BytesIO() as buffer:
            np.save(buffer, np.concatenate(list(blocks)), allow_pickle=False)
            vectors = buffer.getvalue()
        return {
            "vectors": vectors,
            "truncated": encoder.truncated - before[0],
            "cut_tokens": encoder.cut_tokens - before[1],
        }


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("number", pa.int64()),
            ("vectors", pa.large_binary()),
            ("truncated", pa.int64()),
            ("cut_tokens", pa.int64()),
            ("error", pa.string()),
        ]
    )


def _load(job: _Job) -> Encoder:
    """The driver's model: of this machine where it has the same, else of the driver's files."""
    import ray

    found = None
    if job.source is None or Path(job.source).is_dir():
        try:
            found = Encoder.load(job.source, **job.loading)
        except ModernPubMedError:
            if job.packed is None:
                raise
    if (found is None or found.fingerprint != job.fingerprint) and job.packed is not None:
        with TemporaryDirectory() as folder:
            for name, content in ray.get(job.packed).items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            found = Encoder.load(folder, **job.loading)
    if found is None or found.fingerprint != job.fingerprint:
        raise ModernPubMedError(
            f"{job.name} gives other vectors on {platform.node()} than where the call was made",
            remedy="install the same version of modernpubmed on all machines",
        )
    found.name = job.name
    return found


def _pack(folder: Path) -> dict[str, bytes]:
    """A model folder's files, by their names in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _array(data: bytes) -> NDArray[Any]:
    array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    return array


def _plan(folder: ShardFolder, total: int, shard_rows: int) -> _Plan:
    """By the number of a shard its units, in order; none where the shard is there."""
    plan: _Plan = {}
    number = start = 0
    while (there := folder.rows(shard := len(plan))) is not None or start < total:
        rows = min(shard_rows, total - start) if there is None else there
        plan[shard] = []
        if there is None:
            for first in range(start, start + rows, _UNIT):
                plan[shard].append(_Unit(number, shard, first, min(_UNIT, start + rows - first)))
                number += 1
        start += rows
    return plan


def _this_node() -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = ray.get_runtime_context().get_node_id()
    return NodeAffinitySchedulingStrategy(node, soft=False)
