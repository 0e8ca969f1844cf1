"""The command line: parse arguments, call one function, print.

Results go to standard output, progress and remarks to standard error. A bad input is one line and
exit status 2; Ctrl-C is 130, as shells have it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from modernpubmed.cli_distil import add_distil_verb
from modernpubmed.cli_evaluation import add_evaluation_verbs
from modernpubmed.cli_pubmed import add_pubmed_verbs
from modernpubmed.cli_training import add_training_verbs
from modernpubmed.encoder import Encoder, encode_to
from modernpubmed.encoder.long import LONG
from modernpubmed.encoder.precision import VECTOR_TYPES
from modernpubmed.encoder.shards import SHARD_FORMATS
from modernpubmed.errors import ModernPubMedError
from modernpubmed.lines import text_lines
from modernpubmed.manifest import code_version, replacing, sha256
from modernpubmed.terminal import Command, remark, report, say, show_warning, summary
from modernpubmed.threads import usable_threads


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        try:
            try:
                options = _parser().parse_args(arguments)
                options.command(options)
            finally:
                # Here, not when Python exits: a reader that has gone is then still ours to handle.
                sys.stdout.flush()
        except ModernPubMedError as error:
            remark(str(error))
            return 2
        except KeyboardInterrupt as error:
            remark(str(error) or "stopped")
            return 130
        except BrokenPipeError:
            # The reader (head, say) has seen enough; keep Python from saying so again on exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except OSError as error:
            # Inputs are refused where they are read; what is left is the disk: full, read-only, …
            if error.errno is None:
                raise
            remark(str(_on_disk(error)))
            return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="modernpubmed",
        description="Medical text embeddings, from PubMed's XML to answers.",
    )
    parser.add_argument("--version", action="version", version=code_version())
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, command: Command, help: str) -> argparse.ArgumentParser:  # noqa: A002
        added = verbs.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
        added.set_defaults(command=command)
        return added

    add = verb("demo", _demo, "show the main job on real text")
    add.add_argument("--pubmed", action="store_true", help="on NLM's newest file (network)")

    add_pubmed_verbs(verb)

    add = verb("parse", _parse, "parse NLM XML files to articles")
    add.add_argument("files", type=Path, nargs="+", help="pubmed*.xml[.gz], any order")
    _out(add, "folder for articles.parquet")

    add = verb("pairs", _pairs, "make pairs of articles or terminologies, split for training")
    add.add_argument(
        "inputs", type=Path, nargs="+", help="folders of articles, pairs (.jsonl), terminologies"
    )
    add.add_argument(
        "--kind", default="title-abstract", help="of pairs, see docs; default %(default)s"
    )
    _out(add, "folder for train.parquet and dev.parquet")
    add.add_argument("--dev-share", type=float, default=0.02, help="default %(default)s")
    add.add_argument(
        "--near",
        type=_share,
        default=0.8,
        metavar="SHARE",
        help="abstracts this alike are duplicates, or 'none'; default %(default)s",
    )
    add.add_argument("--mesh", nargs="+", default=[], metavar="TERM", help="only with one of these")
    add.add_argument("--since", metavar="DATE", help="only of then or later: 2019, 2019-03 …")
    add.add_argument("--until", metavar="DATE", help="only of then or earlier")
    add.add_argument(
        "--decontaminate",
        type=Path,
        nargs="+",
        default=[],
        metavar="SUITE",
        help="drop what is in these: BEIR folders, pairs (.parquet), sentence pairs (.tsv)",
    )
    add.add_argument("--workers", type=int, help="processes; default one a core")

    add_training_verbs(verb)
    add_distil_verb(verb)
    add_evaluation_verbs(verb)

    add = verb("encode", _encode, "turn texts into vectors")
    add.add_argument("input", type=Path, help="one text a line; - is standard input")
    _out(add, "a .npy file, or a folder for shards: a run that was stopped goes on there")
    _model(add)
    add.add_argument("--dtype", choices=VECTOR_TYPES, default="float32", help="of the numbers")
    add.add_argument("--dim", type=int, help="keep the first numbers of each vector only")
    add.add_argument("--long", choices=LONG, default="truncate", help="what to do with long texts")
    add.add_argument("--format", choices=SHARD_FORMATS, default="npy", help="of the shards")
    add.add_argument(
        "--ray", metavar="ADDRESS", help="compute on a Ray cluster: local, auto, ray://host:port"
    )
    add.add_argument("--ray-cpus", type=int, default=1, help="of a worker there, default 1")

    add = verb("similarity", _similarity, "cosine similarity of two texts")
    add.add_argument("first")
    add.add_argument("second")
    _model(add)

    add = verb("index", _index, "index documents for search")
    add.add_argument("documents", type=Path, help="articles, pairs, BEIR folder, .jsonl or .txt")
    _out(add, "the index to make")
    _model(add)

    add = verb("search", _search, "search an index")
    add.add_argument("index", type=Path)
    add.add_argument("queries", nargs="+")
    add.add_argument("-k", type=int, default=10, help="hits a query, default %(default)s")
    add.add_argument("--years", type=int, nargs=2, metavar=("FROM", "TO"))
    _json(add)
    _model(add)

    add = verb("match", _match, "match free-text mentions to concepts")
    add.add_argument("mentions", nargs="+")
    add.add_argument("--ontology", default="hpo", help="hpo, or an .obo, .tsv or .jsonl file")
    add.add_argument("-k", type=int, default=3, help="concepts a mention, default %(default)s")
    add.add_argument("--threshold", type=float, help="below this cosine there is no match")
    _json(add)
    _model(add)

    add = verb("classify", _classify, "learn labels from examples and give them to texts")
    add.add_argument("examples", type=Path, help="text and label, .tsv, .csv or .jsonl")
    add.add_argument("texts", nargs="*", help="texts to label; without any, only the scores")
    add.add_argument("--balanced", action="store_true", help="weigh each label the same")
    _json(add)
    _model(add)
    return parser


def _demo(options: argparse.Namespace) -> None:
    from modernpubmed import demo

    if options.pubmed:
        demo.on_pubmed(say, report, _cache() / "updatefiles")
    else:
        demo.on_phenotypes(say, report)


def _parse(options: argparse.Namespace) -> None:
    from modernpubmed.pubmed import parse_files

    def progress(file: Path, articles: int) -> None:
        print(f"{file.name}: {articles:,} articles so far", file=sys.stderr)

    summary(parse_files(options.files, options.out, progress=progress), options.out)


def _pairs(options: argparse.Namespace) -> None:
    from modernpubmed.pairs import build_pairs

    manifest = build_pairs(
        options.inputs,
        options.out,
        kind=options.kind,
        dev_share=options.dev_share,
        near=options.near,
        mesh=options.mesh,
        since=options.since,
        until=options.until,
        decontaminate=options.decontaminate,
        workers=options.workers or usable_threads(),
        progress=lambda read: report("records read", read, 0),
    )
    summary(manifest, options.out)
    for suite, rates in manifest.measured.get("overlap", {}).items():
        found = ", ".join(
            f"{rate[how]['count']:,} of {rate['total']:,} {what} {how}"
            for what, rate in rates.items()
            if what != "version"
            for how in ("exact", "near-duplicate")
        )
        say(f"{suite}: {found}")


def _share(text: str) -> float | None:
    return None if text == "none" else float(text)


def _encode(options: argparse.Namespace) -> None:
    loading = {"long": options.long, "dim": options.dim}
    if options.out.suffix == ".npy":
        _encode_to_file(Encoder.load(options.model, **loading), options)
        return
    # Read twice, as a stream each time: the count tells how much time is left.
    source = _lines(options.input) if str(options.input) == "-" else None
    total = len(source) if source is not None else sum(1 for _ in text_lines(options.input))
    if not total:
        raise ModernPubMedError("holds no text", file=options.input, remedy="give one text a line")
    texts = source or (line.rstrip("\r\n") for _, line in text_lines(options.input))

    def progress(done: int, of: int, rate: float) -> None:
        left = timedelta(seconds=round((of - done) / rate))
        report(f"encoding, {rate:,.0f} texts/s, {left} left", done, of)

    shards = {"dtype": options.dtype, "format": options.format, "total": total}
    if options.ray is None:
        encoder = Encoder.load(options.model, **loading)
        manifest = encode_to(encoder, options.out, texts, progress=progress, **shards)
    else:
        from modernpubmed.encoder.bulk import encode_with_ray

        manifest = encode_with_ray(
            options.model,
            options.out,
            texts,
            address=options.ray,
            cpus=options.ray_cpus,
            loading=loading,
            progress=progress,
            **shards,
        )
    summary(manifest, options.out)


def _encode_to_file(encoder: Encoder, options: argparse.Namespace) -> None:
    import numpy as np

    if options.format != "npy" or options.ray is not None:
        raise ModernPubMedError(
            "a .npy file cannot hold Arrow, nor be written by a cluster",
            file=options.out,
            remedy="name a folder",
        )
    texts = _lines(options.input)
    _refuse_other_file(options.out)
    vectors = encoder.encode(texts, dtype=options.dtype)
    with replacing(options.out) as temporary, temporary.open("wb") as file:
        np.save(file, vectors)
    say(f"{options.out}: {vectors.dtype} {list(vectors.shape)}, {encoder.truncated:,} texts cut")


def _similarity(options: argparse.Namespace) -> None:
    encoder = Encoder.load(options.model)
    print(f"{encoder.similarity([options.first], [options.second])[0, 0]:.4f}")


def _index(options: argparse.Namespace) -> None:
    from modernpubmed.search import build_index, read_documents

    source: Path = options.documents
    manifest = build_index(
        read_documents(source),
        Encoder.load(options.model),
        options.out,
        inputs={str(source): sha256(source)} if source.exists() else None,
        report=lambda done: report("documents indexed", done, 0),
    )
    summary(manifest, options.out)


def _search(options: argparse.Namespace) -> None:
    from modernpubmed.search import open_index, search_many

    index = open_index(options.index)
    years = None if options.years is None else tuple(options.years)
    encoder = Encoder.load(options.model)
    answers = search_many(index, options.queries, encoder, options.k, years=years)
    for query, hits in zip(options.queries, answers, strict=True):
        if options.json:
            print(_as_json({"query": query, "hits": [asdict(hit) for hit in hits]}))
            continue
        print(f'"{query}"')
        for hit in hits:
            year = "" if hit.year is None else f" ({hit.year})"
            print(f"{hit.rank:3}  {hit.score:.3f}  {hit.id}  {hit.title or hit.text[:80]}{year}")
        if not hits:
            print("     no document")


def _match(options: argparse.Namespace) -> None:
    from modernpubmed.concepts import build_matcher, hpo, read_ontology

    ontology = hpo() if options.ontology == "hpo" else read_ontology(options.ontology)
    matcher = build_matcher(
        ontology.concepts,
        Encoder.load(options.model),
        cache=_cache() / "concepts",
        report=lambda done, total: report("encoding names and synonyms", done, total),
    )
    for found in matcher.match_many(options.mentions, k=options.k, threshold=options.threshold):
        if options.json:
            print(_as_json(asdict(found)))
            continue
        print(f'"{found.mention}"')
        for match in found.matches:
            form = "" if match.form == match.name else f"  ({match.form})"
            print(f"     {match.score:.3f}  {match.curie}  {match.name}{form}")
        if not found.matches:
            best = found.best_below
            near = "" if best is None else f"; nearest {best.score:.3f} {best.curie} {best.name}"
            print(f"     no concept{near}")


def _classify(options: argparse.Namespace) -> None:
    from modernpubmed.classify import fit, hold_out, read_examples

    texts, labels = zip(*read_examples(options.examples), strict=True)
    encoder = Encoder.load(options.model)
    if not options.texts:
        scores = hold_out(texts, labels, encoder, balanced=options.balanced)
        if options.json:
            print(_as_json(asdict(scores)))
        else:
            print(f"held-out accuracy {scores.accuracy:.3f}, macro F1 {scores.macro_f1:.3f}")
            print(f"({scores.examples:,} of {len(texts):,} examples held out)")
        return
    classifier = fit(texts, labels, encoder, balanced=options.balanced)
    for text, found in zip(options.texts, classifier.predict(options.texts), strict=True):
        if options.json:
            print(_as_json({"text": text, **asdict(found)}))
        else:
            print(f"{found.label}  {found.probability:.3f}  {text}")


def _out(parser: argparse.ArgumentParser, help: str) -> None:  # noqa: A002
    parser.add_argument("--out", type=Path, required=True, help=help)


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="folder, name in the package or hub name; default mini")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON lines")


def _cache() -> Path:
    """Where what is costly to make again is kept (XDG base directory specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "modernpubmed"


def _lines(path: Path) -> list[str]:
    """One text a line, ended by newlines alone: row n of the vectors is line n of the file."""
    name = "standard input" if str(path) == "-" else path
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ModernPubMedError(
            f"cannot be read as UTF-8 text ({error})", file=name, remedy="give one text a line"
        ) from error
    if not text.strip():
        raise ModernPubMedError("holds no text", file=name, remedy="give one text a line")
    return text.removesuffix("\n").split("\n")


def _on_disk(error: OSError) -> ModernPubMedError:
    return ModernPubMedError(
        error.strerror or str(error),
        file=error.filename2 or error.filename,
        remedy="check the path, its permissions and the space left",
    )


def _refuse_other_file(out: Path) -> None:
    # A mistyped path must not cost anybody a file of something else.
    if out.is_dir():
        raise ModernPubMedError("there is a folder here", file=out, remedy="name a .npy file")
    if out.exists():
        with out.open("rb") as file:
            if not file.read(6) == b"\x93NUMPY":
                raise ModernPubMedError(
                    "there is something else than vectors", file=out, remedy="give another path"
                )


def _as_json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
