"""The command line: parse arguments, call one function, print.

Results go to standard output, progress and remarks to standard error. A bad input is one line and
exit status 2; Ctrl-C is 130, as shells have it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from modernpubmed.encoder import Encoder
from modernpubmed.errors import ModernPubMedError, needs_extra
from modernpubmed.manifest import Manifest, code_version, replacing, sha256

Command = Callable[[argparse.Namespace], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            try:
                options = _parser().parse_args(arguments)
                options.command(options)
            finally:
                # Here, not when Python exits: a reader that has gone is then still ours to handle.
                sys.stdout.flush()
        except ModernPubMedError as error:
            _remark(str(error))
            return 2
        except KeyboardInterrupt as error:
            _remark(str(error) or "stopped")
            return 130
        except BrokenPipeError:
            # The reader (head, say) has seen enough; keep Python from saying so again on exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except OSError as error:
            # Inputs are refused where they are read; what is left is the disk: full, read-only, …
            if error.errno is None:
                raise
            _remark(str(_on_disk(error)))
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

    add = verb("train", _train, "fine-tune an encoder on pairs with InfoNCE")
    add.add_argument("recipe", type=Path, help="a TOML file, see recipes/")
    add.add_argument("--pairs", type=Path, required=True, help="what 'pairs' wrote")
    add.add_argument("--base", help="local folder or hub name instead of the recipe's base")
    add.add_argument("--cache", type=Path, help="folder for tokenised pairs that runs share")
    add.add_argument(
        "--report-to", nargs="+", default=[], metavar="TO", help="tensorboard, wandb, trackio …"
    )
    _out(add, "the model folder to make; OUT.run keeps the state")

    add = verb("mine", _mine, "find hard negatives for pairs")
    add.add_argument("pairs", type=Path, help="what 'pairs' wrote, or a Parquet file of pairs")
    _out(add, "folder for the pairs with their negatives; 'train' reads it")
    add.add_argument("--negatives", type=int, default=4, help="a pair; default %(default)s")
    add.add_argument("--depth", type=int, default=50, help="candidates looked at, of each search")
    add.add_argument("--margin", type=float, default=0.95, help="of the positive's score, at most")
    add.add_argument(
        "--mesh-overlap", type=float, default=0.4, help="articles this alike are no negatives"
    )
    _model(add)

    add = verb("plot", _plot, "draw a training run")
    add.add_argument("run", type=Path, help="OUT.run, beside the model")
    _out(add, "a .png or .svg file")

    add = verb("export", _export, "write the graph that runs a model without torch")
    add.add_argument("model", type=Path, help="a sentence-transformers folder")
    add.add_argument("--fp16", action="store_true", help="round the weights to fp16 first")

    add = verb("average", _average, "average the weights of models")
    add.add_argument("models", nargs="+", type=Path, help="two or more model folders")
    add.add_argument("--weights", type=float, nargs="+", help="one a model; default equal")
    _out(add, "the model folder to make")

    add = verb("suites", _suites, "list the test suites, or make one as a BEIR folder")
    add.add_argument("name", nargs="?", help="the suite to make or fetch; without one, the list")
    add.add_argument("--out", type=Path, help="folder to write it to")
    add.add_argument("--suites", type=Path, help="folder that holds suites as BEIR folders")
    add.add_argument("--source", type=Path, help="your articles or pairs, for a PubMed suite")
    add.add_argument("--queries", type=int, default=1000, help="of a PubMed suite; %(default)s")
    add.add_argument("--distractors", type=int, default=50_000, help="the same; %(default)s")
    add.add_argument("--since", help="articles published on or after this date (YYYY-MM-DD)")
    add.add_argument("--until", help="articles published on or before it")

    add = verb("compare", _compare, "evaluate models and BM25 side by side")
    add.add_argument("models", nargs="+", help="folders or hub names; 'shipped' is the package's")
    add.add_argument("--suite", action="append", default=[], help="a BEIR folder, or a name")
    add.add_argument("--wiki-medical-terms", action="store_true", help="the published suite (hub)")
    add.add_argument("--pairs", type=Path, action="append", default=[], help="judged pairs, .tsv")
    add.add_argument("--metric", default="nDCG@10", help="the main metric; default %(default)s")
    add.add_argument("--metrics", nargs="+", default=[], help="further ones, as Recall@50")
    add.add_argument("--trec", action="store_true", help="print trec_eval's convention")
    add.add_argument(
        "--query-prompt",
        action="append",
        default=[],
        metavar="MODEL=TEXT",
        help="instead of its own",
    )
    add.add_argument("--document-prompt", action="append", default=[], metavar="MODEL=TEXT")
    add.add_argument("--contrast", choices=("dev", "test", "all"), help="clinical contrast suite")
    add.add_argument(
        "--non-medical",
        nargs="?",
        const="",
        metavar="FILE",
        help="tell apart; default our own texts",
    )
    add.add_argument("--related", type=Path, help="related pairs (.parquet) for --non-medical")
    add.add_argument("--robustness", action="store_true", help="typos, case, spelling, length …")
    add.add_argument(
        "--trained-on", type=Path, nargs="+", default=[], help="the first model's training pairs"
    )
    add.add_argument("--speed", action="store_true", help="texts a second, in turns")
    add.add_argument("--full", action="store_true", help="all of these but --trained-on")
    add.add_argument("--markdown", action="store_true", help="print Markdown")
    add.add_argument("--vectors", type=Path, help="folder that keeps vectors for the next time")
    add.add_argument("--out", type=Path, help="folder for the results as JSON")

    add = verb("evaluate", _evaluate, "run MTEB's medical tasks on a model")
    add.add_argument("model", help="folder or hub name; 'shipped' is the package's")
    add.add_argument("--mteb", nargs="*", required=True, metavar="TASK", help="default all medical")
    add.add_argument("--out", type=Path, help="folder for MTEB's results")

    add = verb("report", _report_verb, "make a page and Markdown of results")
    add.add_argument("results", type=Path, nargs="+", help="what 'compare --out' wrote")
    _out(add, "folder for report.html and report.md")

    add = verb("card", _card, "write a model's card from results")
    add.add_argument("model", type=Path, help="the model folder")
    add.add_argument("results", type=Path, nargs="+", help="what 'compare --out' wrote")
    add.add_argument("--name", help="the model's name in the results")

    add = verb("encode", _encode, "turn texts into vectors")
    add.add_argument("input", type=Path, help="one text a line; - is standard input")
    add.add_argument("--out", type=Path, required=True, help="a .npy file, float32 [n, d]")
    _model(add)

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
        demo.on_pubmed(_say, _report, _cache() / "updatefiles")
    else:
        demo.on_phenotypes(_say, _report)


def _parse(options: argparse.Namespace) -> None:
    from modernpubmed.pubmed import parse_files

    def progress(file: Path, articles: int) -> None:
        print(f"{file.name}: {articles:,} articles so far", file=sys.stderr)

    _summary(parse_files(options.files, options.out, progress=progress), options.out)


def _pairs(options: argparse.Namespace) -> None:
    from modernpubmed.pairs import build_pairs

    manifest = build_pairs(
        options.inputs,
        options.out,
        kind=options.kind,
        dev_share=options.dev_share,
        progress=lambda read: _report("records read", read, 0),
    )
    _summary(manifest, options.out)


def _train(options: argparse.Namespace) -> None:
    from modernpubmed.training.recipe import read_recipe

    recipe = read_recipe(options.recipe)
    with needs_extra("train", "training"):
        from modernpubmed.training.train import TrainingStoppedError, train
    start = time.monotonic()

    def report(record: dict[str, Any]) -> None:
        _clear()
        for line in _training_lines(record, time.monotonic() - start):
            print(line, file=sys.stderr, flush=True)

    try:
        manifest = train(
            recipe,
            options.pairs,
            options.out,
            base=options.base,
            cache=options.cache,
            report_to=options.report_to,
            report=report,
            progress=_report,
        )
    except TrainingStoppedError as stopped:
        raise KeyboardInterrupt(str(stopped)) from stopped
    _summary(manifest, options.out)


def _mine(options: argparse.Namespace) -> None:
    from modernpubmed.pairs import mine

    manifest = mine(
        options.pairs,
        Encoder.load(options.model),
        options.out,
        negatives=options.negatives,
        depth=options.depth,
        margin=options.margin,
        mesh_overlap=options.mesh_overlap,
        progress=_report,
    )
    _summary(manifest, options.out)


def _plot(options: argparse.Namespace) -> None:
    from modernpubmed.training.plot import plot

    for path in plot(options.run, options.out):
        print(path)


def _export(options: argparse.Namespace) -> None:
    with needs_extra("train", "exporting"):
        from modernpubmed.encoder.export import export
    print(export(options.model, half=options.fp16))


def _average(options: argparse.Namespace) -> None:
    with needs_extra("train", "averaging"):
        from modernpubmed.training.average import average
    _summary(average(options.models, options.out, weights=options.weights), options.out)


def _compare(options: argparse.Namespace) -> None:
    from modernpubmed.evaluation.compare import compare
    from modernpubmed.evaluation.discrimination import discrimination_texts
    from modernpubmed.evaluation.lab import Lab, measure
    from modernpubmed.evaluation.rendering import render_markdown, render_text
    from modernpubmed.evaluation.robustness import publication_years
    from modernpubmed.registry import entries, get
    from modernpubmed.suites import Suite, read_sentence_pairs, read_suite

    if options.related and options.non_medical is None:
        raise ModernPubMedError("--related without --non-medical", remedy="give both")
    if options.full:
        options.contrast = options.contrast or "test"
        options.non_medical = options.non_medical or ""
        options.robustness = options.speed = True
    further = options.contrast or options.non_medical is not None or options.robustness
    if (further or options.trained_on or options.speed) and options.out is None:
        raise ModernPubMedError(
            "further measurements are kept beside the results", remedy="give --out FOLDER"
        )
    names = [*options.suite, *(["wiki_medical_terms"] if options.wiki_medical_terms else [])]
    read = {name: read_suite(name) if Path(name).exists() else get(name) for name in names}
    if options.suites is not None:
        own = [entry for entry in entries(options.suites) if entry.here() and entry.how == "on disk"]
        read |= {entry.name: entry.make() for entry in own}
    suites = {name: suite for name, suite in read.items() if isinstance(suite, Suite)}
    pairs = [suite for suite in read.values() if not isinstance(suite, Suite)]
    pairs += [read_sentence_pairs(path) for path in options.pairs]
    loads = {name: _prompts(options, name) for name in options.models}
    encoders = [_load(name, prompts=prompts) for name, prompts in loads.items()]
    sources = {encoder.name: name for encoder, name in zip(encoders, loads, strict=True)}
    comparison = compare(
        encoders,
        list(suites.values()),
        pairs=pairs,
        out=options.out,
        metric=options.metric,
        metrics=options.metrics,
        vectors=options.vectors,
        progress=_report,
    )
    lab = Lab(
        contrast=options.contrast,
        discrimination=None
        if options.non_medical is None
        else discrimination_texts(options.related, options.non_medical or None),
        robustness=options.robustness,
        years={
            suite.name: publication_years(path)
            for path, suite in suites.items()
            if Path(path).exists()
        },
        trained_on=options.trained_on,
        speed=options.speed,
    )
    if options.out is not None:
        measure(
            lab,
            encoders,
            list(suites.values()),
            comparison,
            options.out,
            folders={encoder.name: encoder.folder for encoder in encoders},
            cut=lambda name, tokens: _load(
                sources[name], max_tokens=tokens, prompts=loads[sources[name]]
            ),
            vectors=options.vectors,
            progress=_report,
        )
    convention = "trec_eval" if options.trec else "sentence-transformers"
    render = render_markdown if options.markdown else render_text
    print(render(comparison, convention=convention), end="")


def _load(name: str, **settings: Any) -> Encoder:
    return Encoder.load(None if name == "shipped" else name, **settings)


def _prompts(options: argparse.Namespace, name: str) -> dict[str, str]:
    """The prompts given for a model instead of its own."""
    prompts = {}
    for role, given in (("query", options.query_prompt), ("document", options.document_prompt)):
        for setting in given:
            model, separator, text = setting.partition("=")
            if not separator or model not in options.models:
                raise ModernPubMedError(
                    f"{setting!r} is not MODEL=TEXT of one of the models",
                    remedy=f"write --{role}-prompt {options.models[0]}='search_query: '",
                )
            if model == name:
                prompts[role] = text
    return prompts


def _evaluate(options: argparse.Namespace) -> None:
    with needs_extra("mteb", "MTEB"):
        from modernpubmed.evaluation.mteb_tasks import run_mteb
    for score in run_mteb(_load(options.model), options.mteb or None, out=options.out):
        print(score)


def _suites(options: argparse.Namespace) -> None:
    raise NotImplementedError


def _report_verb(options: argparse.Namespace) -> None:
    from modernpubmed.evaluation.report import write_report

    for path in write_report(options.results, options.out):
        print(path)


def _card(options: argparse.Namespace) -> None:
    from modernpubmed.evaluation.card import write_card
    from modernpubmed.evaluation.measurements import read_measurements

    print(write_card(options.model, read_measurements(options.results), name=options.name))


def _encode(options: argparse.Namespace) -> None:
    import numpy as np

    texts = _lines(options.input)
    _refuse_other_file(options.out)
    encoder = Encoder.load(options.model)
    vectors = encoder.encode(texts)
    with replacing(options.out) as temporary, temporary.open("wb") as file:
        np.save(file, vectors)
    print(f"{options.out}: float32 {list(vectors.shape)}, {encoder.truncated:,} texts cut")


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
        report=lambda done: _report("documents indexed", done, 0),
    )
    _summary(manifest, options.out)


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
        report=lambda done, total: _report("encoding names and synonyms", done, total),
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
    parser.add_argument("--model", help="folder or hub name; default the model in the package")


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


def _summary(manifest: Manifest, out: Path) -> None:
    counts = ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in manifest.counts.items())
    _say(f"{out}: {counts}")
    if dropped := [f"{count:,} {reason}" for reason, count in manifest.dropped.items() if count]:
        _say(f"left out: {', '.join(dropped)}")


def _training_lines(record: dict[str, Any], seconds: float) -> list[str]:
    if "epochs" in record:
        return [
            f"{name}: {counts['pairs']:,} pairs, {record['epochs'][name]:.2f} epochs in "
            f"{record['steps']:,} steps, {counts['positives_cut']:,} positives cut"
            for name, counts in record["pairs"].items()
        ]
    parts = [f"step {record['step']:,}/{record['steps']:,}"]
    for key, label, form in (
        ("loss", "loss", ".4f"),
        ("learning_rate", "lr", ".2g"),
        ("grad_norm", "gradient", ".2f"),
        ("accuracy", "accuracy", ".3f"),
        ("masked", "masked", ",d"),
        ("padding", "padding", ".1%"),
        ("tokens_per_second", "tokens/s", ",.0f"),
        ("dev_ndcg@10", "dev nDCG@10", ".4f"),
        ("dev_accuracy@1", "dev Accuracy@1", ".4f"),
    ):
        if key in record:
            parts.append(f"{label} {record[key]:{form}}")
    return ["  ".join([*parts, f"{seconds:,.0f} s"])]


def _as_json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _say(text: str) -> None:
    _clear()
    print(text, flush=True)


def _remark(text: str) -> None:
    _clear()
    print(f"modernpubmed: {' '.join(text.split())}", file=sys.stderr, flush=True)


def _report(what: str, done: int, total: int) -> None:
    """One line on a terminal, overwritten; nothing where nobody watches."""
    if not sys.stderr.isatty():
        return
    _clear()
    if not total or done < total:
        share = f"{done:,}" if not total else f"{done:,} of {total:,}"
        print(f"{what}: {share}", end="", file=sys.stderr, flush=True)


def _clear() -> None:
    """Takes away the line that ``_report`` left."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    """A warning in one line, without the place in our code that it came from."""
    del category, filename, lineno, file, line
    _remark(str(message))


if __name__ == "__main__":
    sys.exit(main())
