"""NLM's files → a corpus in its latest state: the verb ``consolidate``.

Files are converted each by itself, on all cores; which of their records are in the latest state is
computed from their keys alone (``latest``, ``keys``), and takes effect at once (``corpus``). So a
new updatefile costs its own conversion and a look for its PMIDs.

Decisions not visible from the code:

- Files count in NLM's order and without a gap. Whatever is wrong with one (its MD5, half of it is
  missing, it is not there at all) holds up all that come after: they are converted, kept, and wait.
  The state is never ahead of what was verified, and never goes back.
- A file that counts and is given again is known by its size and MD5 (its ``.md5``, or its bytes
  where there is none), and not read. Other bytes under its name replace it.
- Files that counted before need not be given again.
- A baseline lists everything, so a newer year's replaces the corpus, and records that NLM dropped
  without a deletion are gone. It does so in one step, when all of its files given are sound;
  until then the old year stays. Files of an older year are not used.

Given up: a corpus of several years, and undoing an updatefile.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from modernpubmed.errors import ModernPubMedError
from modernpubmed.manifest import Manifest
from modernpubmed.pubmed.convert import FileReport
from modernpubmed.pubmed.corpus import (
    FILES,
    Corpus,
    Entry,
    commit,
    folder_name,
    settle,
    span,
    sweep,
    with_state,
)
from modernpubmed.pubmed.keys import write_keys
from modernpubmed.pubmed.lock import alone
from modernpubmed.pubmed.order import Number, stem
from modernpubmed.pubmed.source import expected_md5, file_md5
from modernpubmed.pubmed.workers import convert_all

#: Called with what is being done, how much of it is done, and of how much.
Progress = Callable[[str, int, int], None]

# NLM's folders in a mirror.
_FOLDERS = ("", "baseline", "updatefiles")
# A new year's baseline has nearly all that the old year had; one with less is not all there.
_LEAST_SHARE = 0.9
# A killed run's workers may take a moment to notice; whoever holds it longer is at work.
_PATIENCE = 30.0


def consolidate(
    inputs: Sequence[Path],
    out: Path,
    *,
    workers: int | None = None,
    ray: str | None = None,
    allow_gaps: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Brings the corpus in the folder ``out`` to the latest state of NLM's files.

    Args:
        inputs: NLM's files, and folders of them: a mirror (``baseline/``, ``updatefiles/``), or one
            that holds them directly. Checked against ``FILE.md5`` where that is there.
        out: The corpus; made where there is none, continued where there is one.
        workers: Processes that convert; default all cores.
        ray: Address of a Ray cluster that converts instead.
        allow_gaps: Take the files given for all there are, whatever is missing between them.
        progress: See ``Progress``.

    Returns:
        The manifest. ``settings``: ``as_of`` (the last file that counts), ``files`` (each with its
        checksums and counts), ``gaps``, ``unapplied`` (files given that do not count, and why).
        ``counts``: ``files``, ``md5 checked``, ``articles read``, ``articles`` (in the latest
        state), ``revisions``, ``deletions``, ``deletions of nothing`` and ``failures``.
        ``dropped``: ``superseded`` (by a revision), ``deleted``, ``older version``, ``book``.
        Read = articles + superseded + deleted + older version.

    Raises:
        ModernPubMedError: ``out`` holds something else, another run is at work there, or an input
            is not NLM's: nothing is done then. Or a file is bad, missing, or all are of an older
            year: what comes before it counts, the others are converted and wait.
    """
    given = given_files(inputs)
    out = out.resolve()
    if out.exists() and not out.is_dir():
        raise ModernPubMedError("there is a file here", file=out, remedy="name a folder")
    with alone(out, "corpus", _PATIENCE):
        before = Corpus.open(out)
        plan = _Plan.of(before, given)
        results = _converted(plan, out, workers, ray, progress)
        after, problems = _applied(before, plan, results, allow_gaps)
        commit(after)
        sweep(after, _waiting(after, plan, results))
    if problems:
        raise _failure(after, problems)
    return after.manifest()


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be done with the files given.

    Attributes:
        year: The year that counts from now on, two digits.
        held: The files of that year that count already.
        given: The files given of that year.
        older: Files given of older years.
        targets: The folders that files not known yet are converted to.
        failures: What is wrong with a file before it is even read.
    """

    year: int
    held: Mapping[Number, Entry]
    given: Mapping[Number, Path]
    older: Sequence[Path]
    targets: Mapping[Number, Path] = field(default_factory=dict)
    failures: Mapping[Number, ModernPubMedError] = field(default_factory=dict)

    @classmethod
    def of(cls, before: Corpus, given: Mapping[Number, Path]) -> _Plan:
        year = max(number.year for number in given)
        if before.year is not None:
            year = max(year, before.year)
        held = {entry.number: entry for entry in before.entries if entry.number.year == year}
        mine = {number: path for number, path in given.items() if number.year == year}
        targets, failures = {}, {}
        for number, path in mine.items():
            try:
                md5, size = expected_md5(path) or file_md5(path), path.stat().st_size
            except ModernPubMedError as error:
                failures[number] = error
                continue
            except OSError as error:
                failures[number] = ModernPubMedError(
                    f"cannot be read ({error.strerror})", file=path, remedy="check the path"
                )
                continue
            entry, target = held.get(number), before.path / FILES / folder_name(path.name, md5)
            same = entry is not None and (entry.report.md5, entry.report.bytes) == (md5, size)
            if not (same and target.is_dir()):
                targets[number] = target
        older = [path for number, path in given.items() if number.year < year]
        return cls(year, held, mine, older, targets, failures)

    @property
    def rebuilds(self) -> bool:
        """Whether nothing that counts now is of that year."""
        return not self.held


def given_files(inputs: Sequence[Path]) -> dict[Number, Path]:
    """The files, in NLM's order."""
    found: dict[Number, Path] = {}
    for path in _files(inputs):
        number = Number.of(path.name)
        if number is None:
            raise ModernPubMedError(
                "the name does not say where the file stands among NLM's",
                file=path,
                remedy="name it as NLM does (pubmed26n0001.xml.gz), or use modernpubmed parse",
            )
        other = found.setdefault(number, path)
        if other.resolve() != path.resolve():
            raise ModernPubMedError(
                f"this file is given twice, also as {other}", file=path, remedy="give one of them"
            )
    return dict(sorted(found.items()))


def _files(inputs: Sequence[Path]) -> Iterator[Path]:
    if not inputs:
        raise ModernPubMedError("no file given", remedy="name a mirror, or NLM's files")
    for path in inputs:
        if not path.is_dir():
            yield path
            continue
        folders = [path / name for name in _FOLDERS if (path / name).is_dir()]
        files = [file for folder in folders for file in folder.iterdir() if Number.of(file.name)]
        if not files:
            raise ModernPubMedError(
                "no file of NLM's in it, in baseline/ or in updatefiles/",
                file=path,
                remedy="fill it with modernpubmed mirror, or name another folder",
            )
        yield from files


def _converted(
    plan: _Plan, out: Path, workers: int | None, ray: str | None, progress: Progress | None
) -> dict[Number, Entry | ModernPubMedError]:
    """The files that are new here, converted and with their keys; or what is wrong with them."""
    results: dict[Number, Entry | ModernPubMedError] = dict(plan.failures)
    numbers = {plan.given[number].absolute(): number for number in plan.targets}
    jobs = [(path, plan.targets[number]) for path, number in numbers.items()]
    if not jobs:
        return results
    (out / FILES).mkdir(exist_ok=True)

    def shown(done: int, total: int) -> None:
        if progress is not None:
            progress("files converted", done, total)

    for path, found in convert_all(jobs, workers=workers, ray=ray, report=shown):
        number = numbers[path]
        if isinstance(found, FileReport):
            results[number] = _with_keys(found, path, plan.targets[number])
        else:
            results[number] = found
    return results


def _with_keys(report: FileReport, path: Path, folder: Path) -> Entry | ModernPubMedError:
    entry = Entry(report)
    if entry.folder != folder.name:
        shutil.rmtree(folder)
        return ModernPubMedError(
            "it changed while it was read", file=path, remedy="run modernpubmed consolidate again"
        )
    keys = Corpus(folder.parents[1]).keys(entry)
    settle(folder)
    if not keys.is_file():
        write_keys(folder, keys)
        settle(keys)
    return entry


def _applied(
    before: Corpus,
    plan: _Plan,
    results: Mapping[Number, Entry | ModernPubMedError],
    allow_gaps: bool,
) -> tuple[Corpus, list[ModernPubMedError]]:
    """The corpus as it is to be, its bits written; and what stands in the way of the rest."""
    entries: list[Entry] = []
    unapplied = {path.name: f"of an older year than 20{plan.year:02}" for path in plan.older}
    problems = [] if plan.given else [_too_old(plan)]
    expected, waits = 1, ""
    for number in sorted({*plan.held, *plan.given}):
        held, result = plan.held.get(number), results.get(number)
        name = plan.given[number].name if number in plan.given else ""
        first, expected = expected, number.number + 1
        if held is None and not allow_gaps and number.number > first:
            problems.append(_missing(plan.given[number], span(first, number)))
            waits = waits or f"waits for {span(first, number)}"
        if isinstance(result, ModernPubMedError):
            problems.append(result)
            unapplied[name] = result.cause
            waits = waits or f"waits for {stem(name)}"
        elif waits and result is not None:
            unapplied[name] = waits
        entry = result if isinstance(result, Entry) and not waits else held
        if entry is not None:
            entries.append(entry)
    failures = sum(isinstance(result, ModernPubMedError) for result in results.values())
    after = before
    if plan.rebuilds and before.entries and problems:
        for name in (plan.given[number].name for number in plan.targets):
            unapplied.setdefault(name, f"waits for the whole of 20{plan.year:02}")
    elif entries and tuple(_reports(entries)) != tuple(_reports(before.entries)):
        after = with_state(before, entries)
        if plan.rebuilds and before.entries and (problem := _shrunk(before, after)):
            problems.append(problem)
            unapplied |= {report.name: problem.cause for report in _reports(entries)}
            after = before
    return replace(after, unapplied=unapplied, failures=failures), problems


def _reports(entries: Sequence[Entry]) -> Iterator[FileReport]:
    return (entry.report for entry in entries)


def _too_old(plan: _Plan) -> ModernPubMedError:
    names = ", ".join(path.name for path in plan.older[:10])
    return ModernPubMedError(
        f"of an older year than the corpus, which is of 20{plan.year:02} ({names})",
        file=plan.older[0],
        remedy="give files of that year, or another folder to make a corpus of these",
    )


def _missing(path: Path, missing: str) -> ModernPubMedError:
    return ModernPubMedError(
        f"missing before it: {missing}",
        file=path,
        remedy="fetch what is missing, or give --allow-gaps if these files are all you want",
    )


def _shrunk(before: Corpus, after: Corpus) -> ModernPubMedError | None:
    old, new = before.totals["articles"], after.totals["articles"]
    if new >= _LEAST_SHARE * old:
        return None
    return ModernPubMedError(
        f"20{after.year:02}'s files hold {new:,} articles, 20{before.year:02}'s {old:,}",
        file=after.path,
        remedy="fetch the rest of the new baseline, or make a new corpus of these files",
    )


def _waiting(
    after: Corpus, plan: _Plan, results: Mapping[Number, Entry | ModernPubMedError]
) -> set[str]:
    """Folders of files that are converted and may count one day."""
    mine = {result.folder for result in results.values() if isinstance(result, Entry)}
    known = {entry.number for entry in after.entries} | set(plan.given)
    folder = after.path / FILES
    for child in folder.iterdir() if folder.is_dir() else ():
        number = Number.of(f"{child.name.partition('-')[0]}.xml")
        if number is not None and number not in known and number.year >= (after.year or 0):
            mine.add(child.name)
    return mine


def _failure(after: Corpus, problems: Sequence[ModernPubMedError]) -> ModernPubMedError:
    first, *others = problems
    as_of = f"is as of {after.as_of}" if after.entries else "holds nothing yet"
    cause = f"{first.cause}; the corpus {as_of}"
    if others:
        more = [f"{Path(other.file or '').name}: {other.cause}" for other in others[:10]]
        left = f", and {len(others) - 10} more" if len(others) > 10 else ""
        cause = f"{cause}; also {'; '.join(more)}{left}"
    return ModernPubMedError(cause, file=first.file, record=first.record, remedy=first.remedy)
