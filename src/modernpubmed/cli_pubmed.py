"""The command line's verbs of PubMed as a whole: mirror, consolidate, validate.

As in ``cli.py``: arguments in, one call, print.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modernpubmed.terminal import AddVerb, remark, report, say, summary

if TYPE_CHECKING:
    from modernpubmed.pubmed.mirror import MirrorReport


def add_pubmed_verbs(verb: AddVerb) -> None:
    """Adds them, in the order in which they are listed."""
    _add_mirror(verb)
    _add_consolidate(verb)
    _add_validate(verb)


def _add_mirror(verb: AddVerb) -> None:
    add = verb("mirror", _mirror, "fetch NLM's files, or what of them is new or has changed")
    add.add_argument("folder", type=Path, help="where baseline/ and updatefiles/ are kept")
    add.add_argument("--base", metavar="URL", help="the server's folder, default NLM's")
    add.add_argument("--only", choices=("baseline", "updates"), help="one of the two folders")
    add.add_argument("--latest", type=int, metavar="N", help="the newest N files only")
    add.add_argument("--workers", type=int, metavar="N", help="connections at a time, default 4")
    add.add_argument("--verify", action="store_true", help="read every file here again")
    add.add_argument("--dry-run", action="store_true", help="fetch nothing, say what would be")


def _add_consolidate(verb: AddVerb) -> None:
    add = verb("consolidate", _consolidate, "bring a corpus to the latest state of NLM's files")
    add.add_argument("inputs", type=Path, nargs="+", help="a mirror, or NLM's files")
    add.add_argument("--out", type=Path, required=True, help="the corpus, made or continued")
    add.add_argument("--workers", type=int, metavar="N", help="processes, default all cores")
    add.add_argument("--ray", metavar="ADDRESS", help="a Ray cluster to convert on, or 'local'")
    add.add_argument(
        "--allow-gaps", action="store_true", help="these files only, whatever lies between them"
    )
    add.add_argument("--plain", type=Path, metavar="FOLDER", help="write it as plain Parquet too")


def _add_validate(verb: AddVerb) -> None:
    add = verb("validate", _validate, "check a corpus against everything that must hold")
    add.add_argument("corpus", type=Path, help="what 'consolidate' made")
    add.add_argument("--mirror", type=Path, help="the files it was made of")


def _consolidate(options: argparse.Namespace) -> None:
    from modernpubmed.pubmed.consolidate import consolidate
    from modernpubmed.pubmed.plain import write_plain

    manifest = consolidate(
        options.inputs,
        options.out,
        workers=options.workers,
        ray=options.ray,
        allow_gaps=options.allow_gaps,
        progress=report,
    )
    summary(manifest, f"{options.out}, as of {manifest.settings['as_of']}")
    for name, reason in manifest.settings["unapplied"].items():
        remark(f"{name}: not used, {reason}")
    if options.plain is not None:
        copied = write_plain(options.out, options.plain, progress=report)
        say(f"{options.plain}: {copied.counts['articles']:,} articles")


def _validate(options: argparse.Namespace) -> None:
    from modernpubmed.errors import ModernPubMedError
    from modernpubmed.pubmed.validate import validate

    failed = 0
    for check in validate(options.corpus, options.mirror, progress=report):
        say(str(check))
        failed += check.outcome == "fail"
    if failed:
        raise ModernPubMedError(
            f"{failed} of the checks failed",
            file=options.corpus,
            remedy="run modernpubmed consolidate into a new folder",
        )


def _mirror(options: argparse.Namespace) -> None:
    from modernpubmed.pubmed.listing import NLM
    from modernpubmed.pubmed.mirror import IncompleteMirrorError, mirror
    from modernpubmed.pubmed.transfer import Manners

    try:
        done = mirror(
            options.folder,
            base=options.base or NLM,
            only=options.only,
            latest=options.latest,
            dry_run=options.dry_run,
            verify=options.verify,
            manners=Manners() if options.workers is None else Manners(workers=options.workers),
            progress=lambda done, files, received: report(
                f"{received >> 20:,} MB fetched, files", done, files
            ),
        )
    except IncompleteMirrorError as error:
        _say_mirror(options.folder, error.report)
        for failure in error.report.failed.values():
            remark(str(failure))
        raise
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt("stopped; the same command goes on from here") from error
    _say_mirror(options.folder, done)


def _say_mirror(folder: Path, done: MirrorReport) -> None:
    if done.dry_run:
        for name, size in done.sizes.items():
            say(f"{name}  {'size not known' if size is None else _bytes(size)}")
    changed = {"republished by NLM": done.republished, "damaged here": done.damaged}
    counts = [
        f"{len(names):,} {what}" for what, names in {"new": done.new, **changed}.items() if names
    ]
    total = _bytes(sum(size or 0 for size in done.sizes.values()))
    verb = "to fetch" if done.dry_run else "fetched"
    say(f"{folder}: {', '.join([*counts, f'{total} {verb}', f'{done.kept:,} kept'])}")
    for what, names in changed.items():
        if names:
            say(f"{what}: {_names(names)}")
    if done.vanished:
        say(f"no longer on the server, still here: {_names(done.vanished)}")


def _names(names: Sequence[str]) -> str:
    """All of a few; of many the first and the last."""
    if len(names) <= 5:
        return ", ".join(names)
    return f"{len(names):,} files, {names[0]} to {names[-1]}"


def _bytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
