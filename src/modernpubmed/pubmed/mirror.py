"""NLM's whole PubMed in a folder, and kept current: the verb ``mirror``.

The folder is NLM's own tree, ``baseline/`` and ``updatefiles/``, each file with its ``.md5``. A
file has its name only when its bytes were verified; one that is already there is replaced only by
verified bytes; nothing is ever deleted because it is gone from the server.

What was verified, and what the server's index said of it, is remembered in ``.mirror.json``: a
file whose size and time are as they were is not read again, one whose row in the index is as it
was is not asked for again, so that a daily run costs two requests and the new files. That memory
is a convenience: without it everything is read, and nothing fetched that is right.

Given up: deleting last year's files after a new baseline (they are named, ``consolidate`` knows
what to do with them), and several servers at once.
"""

from __future__ import annotations

import errno
import json
import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from email.utils import parsedate_to_datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Literal

from modernpubmed.errors import ModernPubMedError
from modernpubmed.pubmed.listing import NLM, Listed, read_listing
from modernpubmed.pubmed.lock import alone
from modernpubmed.pubmed.order import nlm_order
from modernpubmed.pubmed.source import file_md5
from modernpubmed.pubmed.transfer import (
    Client,
    Manners,
    Published,
    StoppedError,
    UnreachableError,
    address,
    forget,
    write_beside,
    write_whole,
)

Progress = Callable[[int, int, int], None]
Kind = Literal["new", "republished", "damaged", "kept"]

#: What ``only`` may name, and the folder it means.
FOLDERS = {"baseline": "baseline", "updates": "updatefiles"}

_MEMORY = ".mirror.json"
#: A row that is younger may change again without looking different: indexes show minutes, in a
#: time zone that they do not name.
_SETTLED_DAYS = 2
#: Seconds between two savings of the memory, and between two calls of ``progress``.
_SAVE_EVERY, _SHOW_EVERY = 10.0, 0.2
#: Seconds that stopping waits for threads; what is left of them then can only fail.
_STOPPING = 3.0
#: The disk's failures that the next file would meet too.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


@dataclass(frozen=True, slots=True)
class MirrorReport:
    """What a run did, or would do. Files are named as ``updatefiles/pubmed26n1335.xml.gz``.

    Attributes:
        new: Files that were not here, in NLM's order.
        republished: Files that NLM has replaced under their old name, replaced here too.
        damaged: Files here that were not what was verified or NLM's, replaced.
        kept: How many were here and right.
        vanished: Files here that the server no longer has; they stay.
        failed: Why a file could not be brought here; what was there of it is still there.
        untried: How many were not asked for any more, because the server was gone.
        sizes: Bytes of the new, republished and damaged ones; in a dry run as the server says,
            roughly where its index rounds, None where it does not say.
        dry_run: Nothing was fetched, all of this is what would be.
    """

    new: tuple[str, ...] = ()
    republished: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    kept: int = 0
    vanished: tuple[str, ...] = ()
    failed: Mapping[str, ModernPubMedError] = field(default_factory=dict)
    untried: int = 0
    sizes: Mapping[str, int | None] = field(default_factory=dict)
    dry_run: bool = False


class IncompleteMirrorError(ModernPubMedError):
    """Some files could not be fetched; ``report`` has them, and what was done with the others."""

    def __init__(self, folder: Path, report: MirrorReport) -> None:
        self.report = report
        names = [*report.failed][:10]
        more = len(report.failed) - len(names)
        others = f" and {more:,} more" if more else ""
        untried = f", {report.untried:,} not tried" if report.untried else ""
        super().__init__(
            f"{len(report.failed):,} failed ({', '.join(names)}{others}){untried}; "
            "what is here is verified",
            file=folder,
            remedy="run it again: it goes on where it was",
        )


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is remembered of a file that was verified.

    Attributes:
        md5: Of its bytes.
        size: In bytes.
        mtime_ns: When it was last written to, as the file system has it.
        about: What the server's index said of it, where that was old enough to be relied on.
    """

    md5: str
    size: int
    mtime_ns: int
    about: str = ""

    @classmethod
    def now(cls, path: Path, md5: str = "", about: str = "") -> _Seen:
        status = path.stat()
        return cls(md5, status.st_size, status.st_mtime_ns, about)

    def holds(self, path: Path) -> bool:
        """Whether the file is as it was, without reading it."""
        try:
            now = self.now(path)
        except OSError:
            return False
        return (now.size, now.mtime_ns) == (self.size, self.mtime_ns)


@dataclass(frozen=True, slots=True)
class _Task:
    """One file to be looked after.

    Attributes:
        name: With its folder, as in ``MirrorReport``.
        listed: Its row in the index.
        settled: Whether that row is old enough to be relied on.
        seen: What is remembered of it.
    """

    name: str
    listed: Listed
    settled: bool
    seen: _Seen | None

    def is_right(self, folder: Path) -> bool:
        """Whether the file is as it was when it was verified, here and on the server."""
        path = folder / self.name
        return (
            self.seen is not None
            and self.settled
            and self.seen.about == self.listed.about
            and self.seen.holds(path)
            and path.with_name(f"{path.name}.md5").is_file()
        )


@dataclass(frozen=True, slots=True)
class _Done:
    kind: Kind
    size: int | None
    seen: _Seen | None


def mirror(
    folder: Path,
    *,
    base: str = NLM,
    only: str | None = None,
    latest: int | None = None,
    dry_run: bool = False,
    verify: bool = False,
    manners: Manners | None = None,
    progress: Progress | None = None,
) -> MirrorReport:
    """Brings a folder to what NLM publishes now.

    Args:
        folder: Gets ``baseline/`` and ``updatefiles/``; made where there is none.
        base: The server's folder that holds these two.
        only: ``baseline`` or ``updates``; None is both.
        latest: Only as many, the newest by year and number; None is all.
        dry_run: Find out what is to be fetched, and change nothing.
        verify: Read every file here, and ask for every ``.md5``, whatever is remembered.
        manners: How to treat the server.
        progress: Called with how many files are done, of how many, and the bytes received.

    Returns:
        What was done; all of it worked.

    Raises:
        IncompleteMirrorError: A file could not be fetched or verified. The others were.
        ModernPubMedError: The server cannot be reached or has no such files, the folder cannot be
            written to or the disk is full, or another process is at work in the folder.
    """
    base = address(base)
    if only is not None and only not in FOLDERS:
        raise ModernPubMedError(f"no folder {only!r}", remedy=f"give {' or '.join(FOLDERS)}")
    manners = manners or Manners()
    for what, number in (("latest", latest), ("workers", manners.workers)):
        if number is not None and number < 1:
            raise ModernPubMedError(f"{what} is {number}", remedy="give 1 or more")
    client = Client(manners)
    with nullcontext() if dry_run else alone(folder, "mirror"):
        memory = _Memory.read(folder, base)
        parts = [FOLDERS[only]] if only is not None else [*FOLDERS.values()]
        tasks, vanished = _survey(client, folder, memory, parts)
        if latest is not None:
            tasks = tasks[-latest:]
        unsure = [task for task in tasks if verify or not task.is_right(folder)]
        tally = _Tally(kept=len(tasks) - len(unsure))
        work = _Work(client, folder, base, dry_run=dry_run, verify=verify)
        if not dry_run:
            _check_space(folder, unsure)
        try:
            _follow(work, unsure, tally, memory, progress)
        finally:
            if not dry_run:
                memory.write(folder)
    report = tally.report(vanished, dry_run=dry_run)
    if report.failed:
        raise IncompleteMirrorError(folder, report)
    return report


@dataclass(frozen=True, slots=True)
class _Work:
    """What a thread does with a file."""

    client: Client
    folder: Path
    base: str
    dry_run: bool
    verify: bool

    def __call__(self, task: _Task, progress: Callable[[int], None]) -> _Done:
        """Makes the file right, or finds out that it is."""
        url, path = f"{self.base}{task.name}", self.folder / task.name
        published = self.client.published(url)
        here = self._here(path, task.seen)
        about = task.listed.about if task.settled else ""
        if here is not None and here.md5 == published.md5:
            if not self.dry_run:
                forget(path)
                if _beside(path) != published:
                    write_beside(path, published)
            return _Done("kept", None, replace(here, about=about))
        kind = self._kind(path, here, task.seen)
        if self.dry_run:
            return _Done(kind, task.listed.size or self.client.size(url), None)
        published = self.client.fetch(url, path, published, progress)
        seen = _Seen.now(path, published.md5, about)
        return _Done(kind, seen.size, seen)

    def _here(self, path: Path, seen: _Seen | None) -> _Seen | None:
        """What is here; read, unless it is remembered."""
        if not path.is_file():
            return None
        if seen is not None and seen.holds(path) and not self.verify:
            return seen
        # The time is taken before the bytes: a change while they are read shows the next time.
        return replace(_Seen.now(path), md5=file_md5(path))

    @staticmethod
    def _kind(path: Path, here: _Seen | None, seen: _Seen | None) -> Kind:
        if here is None:
            return "new"
        beside = _beside(path)
        right = {seen.md5} if seen is not None else {beside.md5} if beside is not None else set()
        return "republished" if here.md5 in right else "damaged"


def _beside(path: Path) -> Published | None:
    """What the ``.md5`` file here says."""
    try:
        return Published.read(path.with_name(f"{path.name}.md5").read_bytes().decode())
    except (OSError, UnicodeDecodeError):
        return None


@dataclass(slots=True)
class _Tally:
    """What has been done so far."""

    kept: int
    untried: int = 0
    files: dict[Kind, dict[str, int | None]] = field(default_factory=dict)
    failed: dict[str, ModernPubMedError] = field(default_factory=dict)

    def add(self, task: _Task, done: _Done) -> None:
        if done.kind == "kept":
            self.kept += 1
        else:
            self.files.setdefault(done.kind, {})[task.name] = done.size

    def report(self, vanished: Sequence[str], *, dry_run: bool) -> MirrorReport:
        kinds: tuple[Kind, ...] = ("new", "republished", "damaged")
        new, republished, damaged = (_sorted(self.files.get(kind, {})) for kind in kinds)
        sizes = {name: size for of in self.files.values() for name, size in of.items()}
        return MirrorReport(
            new=new,
            republished=republished,
            damaged=damaged,
            kept=self.kept,
            vanished=_sorted(vanished),
            failed={name: self.failed[name] for name in _sorted(self.failed)},
            untried=self.untried,
            sizes={name: sizes[name] for name in _sorted(sizes)},
            dry_run=dry_run,
        )


def _survey(
    client: Client, folder: Path, memory: _Memory, parts: Sequence[str]
) -> tuple[list[_Task], list[str]]:
    """The files on the server, in NLM's order, and those that are only here."""
    tasks: dict[str, _Task] = {}
    vanished: list[str] = []
    for part in parts:
        page, headers = client.read(f"{memory.base}{part}/")
        today = _day(headers)
        listed = read_listing(page)
        for one in listed:
            name = f"{part}/{one.name}"
            settled = (
                today is not None
                and one.day is not None
                and (today - one.day).days >= _SETTLED_DAYS
            )
            tasks[name] = _Task(name, one, settled, memory.seen.get(name))
        here = read_listing("\n".join(path.name for path in (folder / part).glob("*.xml.gz")))
        vanished += {f"{part}/{one.name}" for one in here} - set(tasks)
    if not tasks:
        raise ModernPubMedError(
            "lists none of NLM's files", file=memory.base, remedy="check the address"
        )
    return [tasks[name] for name in _sorted(tasks)], vanished


def _follow(
    work: _Work,
    tasks: Sequence[_Task],
    tally: _Tally,
    memory: _Memory,
    progress: Progress | None,
) -> None:
    """Has the tasks worked on in parallel, and keeps account of them."""
    finished = received = 0
    shown = saved = time.monotonic()
    # Files in a row that failed because nobody answered.
    silent = 0
    with closing(_in_parallel(work, tasks)) as events:
        for event in events:
            now = time.monotonic()
            if progress is not None and now - shown >= _SHOW_EVERY:
                shown = now
                progress(finished, len(tasks), received)
            if isinstance(event, int):
                received += event
                continue
            finished += 1
            task, done = event
            if isinstance(done, _Done):
                silent = 0
                tally.add(task, done)
                if done.seen is not None:
                    memory.seen[task.name] = done.seen
                if not work.dry_run and now - saved >= _SAVE_EVERY:
                    saved = now
                    memory.write(work.folder)
                continue
            tally.failed[task.name] = _refused(done)
            silent = silent + 1 if isinstance(done, UnreachableError) else 0
            if silent >= 2 * work.client.manners.workers:
                tally.untried = len(tasks) - finished
                return


def _refused(error: Exception) -> ModernPubMedError:
    """The error as one file's; raised at once where it would be every file's, or is a bug."""
    if isinstance(error, ModernPubMedError):
        return error
    if not isinstance(error, OSError):
        raise error
    refused = ModernPubMedError(
        error.strerror or str(error),
        file=error.filename2 or error.filename,
        remedy="check the path, its permissions and the space left, and run it again",
    )
    if error.errno in _DISK:
        raise refused from error
    return refused


Event = int | tuple[_Task, _Done | Exception]


def _in_parallel(work: _Work, tasks: Sequence[_Task]) -> Generator[Event]:
    """What threads report: bytes received, and each task with its result or its error.

    They are daemons, because one that waits for a byte cannot be woken: when this ends early they
    are told to stop, and what they still do is give up. A partial file is whole at every byte.
    """
    waiting: SimpleQueue[_Task] = SimpleQueue()
    events: SimpleQueue[Event] = SimpleQueue()
    for task in tasks:
        waiting.put(task)

    def run() -> None:
        while True:
            try:
                task = waiting.get_nowait()
            except Empty:
                return
            try:
                events.put((task, work(task, events.put)))
            except StoppedError:
                return
            except Exception as error:  # noqa: BLE001 (raised again by who listens)
                events.put((task, error))

    workers = min(work.client.manners.workers, len(tasks))
    threads = [threading.Thread(target=run, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    left = len(tasks)
    try:
        while left:
            event = events.get()
            left -= not isinstance(event, int)
            yield event
    finally:
        work.client.stop()
        until = time.monotonic() + _STOPPING
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))


@dataclass(slots=True)
class _Memory:
    """What is remembered of a mirror, by file."""

    base: str
    seen: dict[str, _Seen] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, base: str) -> _Memory:
        """Empty where there is none, or none that can be read: then files are read instead."""
        try:
            content = json.loads((folder / _MEMORY).read_bytes())
            seen = {name: _Seen(**values) for name, values in content["files"].items()}
            if content["base"] != base:
                # Another server's rows say nothing of this one's.
                seen = {name: replace(one, about="") for name, one in seen.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return cls(base)
        return cls(base, seen)

    def write(self, folder: Path) -> None:
        files = {name: asdict(self.seen[name]) for name in sorted(self.seen)}
        text = json.dumps({"base": self.base, "files": files}, indent=1)
        write_whole(folder / _MEMORY, f"{text}\n")


def _check_space(folder: Path, tasks: Sequence[_Task]) -> None:
    """Refuses what cannot fit, before hours of it; as far as the server tells sizes."""
    missing = [task for task in tasks if not (folder / task.name).exists()]
    needed = sum(task.listed.size or 0 for task in missing)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ModernPubMedError(
            f"{needed / 1e9:,.1f} GB are to come and {free / 1e9:,.1f} GB are free",
            file=folder,
            remedy="free some space, or fetch fewer with --only or --latest",
        )


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    """In NLM's order, which is that of the numbers in both folders."""
    return tuple(path.as_posix() for path in nlm_order([Path(name) for name in names]))


def _day(headers: Mapping[str, str]) -> date | None:
    """The server's own day."""
    try:
        return parsedate_to_datetime(headers.get("Date") or "").date()
    except ValueError:
        return None
