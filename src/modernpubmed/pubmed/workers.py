"""Many NLM files at a time: a process a core, or tasks on a Ray cluster.

Files share nothing, so a file is the unit of work. A bad file is reported and costs no other file
anything. What was finished before, by whatever run, is not done again: a folder whose report
names the very bytes of its file is complete, since it was renamed into place as a whole.

Workers are fresh interpreters that are handed one file a line on their standard input. They share
no memory and no lock with this process, so it may have threads, and may be a notebook or a script
without a main guard. One that dies (out of memory, killed) is named, and its file is tried once
more in a fresh one; one whose parent is gone ends at once.
"""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from shutil import rmtree
from typing import IO, Any, cast

from modernpubmed.cluster import connected, import_ray
from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import sha256
from modernpubmed.pubmed.convert import FileReport, convert
from modernpubmed.threads import usable_threads

Job = tuple[Path, Path]
Outcome = tuple[Path, FileReport | ModernPubMedError]

#: What a worker runs; not ``-m``, which would import this module twice.
_SERVE = "from modernpubmed.pubmed.workers import serve; serve()"
_ATTEMPTS = 2
_RAY_RETRIES = 3
_TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}")


def convert_all(
    jobs: Sequence[Job],
    *,
    workers: int | None = None,
    ray: str | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Iterator[Outcome]:
    """Converts files side by side; yields each as it is finished, in no fixed order.

    Args:
        jobs: ``(source, target)`` of each file, as ``convert`` takes them.
        workers: How many at a time; by default as many as cores may be used. 1 means in this
            process.
        ray: Address of a Ray cluster to run on instead, or ``local`` for one that is started
            here with ``workers`` cores and stopped afterwards. The paths must be the same on all
            of its nodes, which need a shared file system and this package.
        report: Called after each file with the number of files done, and of all.

    Yields:
        The source and its report, or the error that says why there is none.

    Raises:
        ModernPubMedError: ``workers`` is less than 1, two jobs have one target, or the cluster
            cannot be reached.
    """
    if workers is not None and workers < 1:
        raise ModernPubMedError(f"workers: {workers} is less than 1", remedy="give 1 or more")
    jobs = [(source.absolute(), target.absolute()) for source, target in jobs]
    if len({target for _, target in jobs}) < len(jobs):
        raise ModernPubMedError("two files have one target", remedy="name each file once")
    _clear(target for _, target in jobs)
    if ray is not None:
        outcomes = _on_ray(jobs, ray, workers)
    else:
        count = min(usable_threads() if workers is None else workers, len(jobs))
        outcomes = _in_processes(jobs, count) if count > 1 else _in_turn(jobs)
    with closing(outcomes):
        for done, outcome in enumerate(outcomes, start=1):
            if report is not None:
                report(done, len(jobs))
            yield outcome


def finished(source: Path, target: Path) -> FileReport | None:
    """The report at ``target`` if it is of the bytes that ``source`` has now, else None."""
    try:
        report = FileReport.read(target)
        same = source.stat().st_size == report.bytes and sha256(source) == report.sha256
    except (ModernPubMedError, OSError):
        return None
    return report if same and report.name == source.name else None


def serve() -> None:
    """The loop of a worker: a job a line on standard input, its answer a line on standard output.

    Ends the process, whatever it is doing, when standard input does: the parent is gone then.
    """
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        source, target = json.loads(lines.get())
        print(_answer(source, target), flush=True)  # noqa: T201


def _in_turn(jobs: Sequence[Job]) -> Generator[Outcome]:
    yield from map(_converted, jobs)


def _converted(job: Job) -> Outcome:
    source, target = job
    try:
        return source, finished(source, target) or convert(source, target)
    except ModernPubMedError as error:
        return source, error


def _answer(source: str, target: str) -> str:
    """The outcome as a line of JSON: what another process or machine can send back."""
    _, outcome = _converted((Path(source), Path(target)))
    if isinstance(outcome, FileReport):
        return json.dumps({"report": outcome.as_dict()})
    return json.dumps({"error": outcome.parts()})


def _outcome(source: Path, answer: str) -> Outcome:
    found: dict[str, Any] = json.loads(answer)
    if "report" in found:
        return source, FileReport.from_dict(found["report"])
    return source, ModernPubMedError(**found["error"])


def _clear(targets: Iterable[Path]) -> None:
    """Removes what killed processes were writing for these (see ``manifest.replacing``)."""
    names: dict[Path, set[str]] = {}
    for target in targets:
        names.setdefault(target.parent, set()).add(target.name)
    for folder, own in names.items():
        for left in folder.iterdir() if folder.is_dir() else ():
            match = _TEMPORARY.fullmatch(left.name)
            if match is not None and match[1] in own and left.is_dir():
                rmtree(left, ignore_errors=True)


class _Worker:
    """A process that converts files; started anew when it has died."""

    def __init__(self) -> None:
        self.stopped = False
        self._process: subprocess.Popen[str] | None = None

    def convert(self, job: Job) -> Outcome:
        """The file's outcome; an error that names the process if it died over the file twice."""
        source, target = job
        ends: list[str] = []
        while len(ends) < _ATTEMPTS and not self.stopped:
            process = self._process = self._process or _start()
            if self.stopped:  # since it was started
                process.kill()
            answer = _asked(process, f"{json.dumps([str(source), str(target)])}\n")
            if answer:
                return _outcome(source, answer)
            ends.append(f"process {process.pid} ended {_ending(process.wait())}")
            self._process = None
            _close(process)
            _clear([target])
        return source, ModernPubMedError(
            f"its worker died each time: {', '.join(ends)}",
            file=source,
            remedy="see what ended it (memory?), and run it again",
        )

    def stop(self) -> None:
        """Ends the process, whatever it is doing."""
        self.stopped = True
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Lets go of the process, once nobody asks it any more."""
        if self._process is not None:
            self._process.wait()
            _close(self._process)


def _close(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout):
        with suppress(OSError):
            cast("IO[str]", stream).close()


def _start() -> subprocess.Popen[str]:
    # A process group of its own: Ctrl-C is the parent's to deal with.
    return subprocess.Popen(  # noqa: S603 -- this interpreter, our own code
        [sys.executable, "-c", _SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        process_group=0 if os.name == "posix" else None,
    )


def _asked(process: subprocess.Popen[str], line: str) -> str:
    """The worker's answer; empty if it died before it gave one."""
    to_it, from_it = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)
    try:
        to_it.write(line)
        to_it.flush()
        answer = from_it.readline()
    except BrokenPipeError:
        return ""
    return answer if answer.endswith("\n") else ""


def _ending(status: int) -> str:
    return f"by signal {-status}" if status < 0 else f"with status {status}"


def _in_processes(jobs: Sequence[Job], count: int) -> Generator[Outcome]:
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    pool = [_Worker() for _ in range(count)]

    def work(worker: _Worker) -> None:
        with suppress(queue.Empty):
            while not worker.stopped:
                outcomes.put(worker.convert(waiting.get_nowait()))

    threads = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in pool]
    try:
        for thread in threads:
            thread.start()
        for _ in jobs:
            yield outcomes.get()
    finally:
        for worker in pool:
            worker.stop()
        for worker, thread in zip(pool, threads, strict=True):
            thread.join()
            worker.close()
        _clear(target for _, target in jobs)


def _on_ray(jobs: Sequence[Job], address: str, workers: int | None) -> Generator[Outcome]:
    ray = import_ray(address, "running on Ray")
    cores = usable_threads() if workers is None else workers
    with connected(ray, address, num_cpus=cores):
        answer = ray.remote(max_retries=_RAY_RETRIES)(_answer)
        waiting = iter(jobs)
        running: dict[Any, Path] = {}
        try:
            while True:
                # A few tasks a core are enough to keep it busy, and no queue grows with the input.
                window = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
                for source, target in islice(waiting, max(0, window - len(running))):
                    running[answer.remote(str(source), str(target))] = source
                if not running:
                    return
                for done in ray.wait(list(running), num_returns=1)[0]:
                    source = running.pop(done)
                    try:
                        yield _outcome(source, ray.get(done))
                    except ray.exceptions.RayTaskError:  # a bug of ours, which must look like one
                        raise
                    except ray.exceptions.RayError as error:
                        yield source, _lost(source, error)
        finally:
            for task in running:
                ray.cancel(task, force=True)
            _clear(target for _, target in jobs)


def _lost(source: Path, error: Exception) -> ModernPubMedError:
    return ModernPubMedError(
        f"its task was lost {_RAY_RETRIES + 1} times ({error})",
        file=source,
        remedy="see what ended it (memory? a node?), and run it again",
    )
