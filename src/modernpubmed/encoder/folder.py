"""What a sentence-transformers folder says about itself, read without sentence-transformers.

``modules.json`` lists the steps of a model. We read the ones that sentence encoders have —
Transformer, Pooling, Normalize — in both spellings (before and since sentence-transformers 5.3),
and refuse anything else rather than skip it: a forgotten Dense layer gives wrong vectors silently.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from modernpubmed.encoder.pooling import POOLING_MODES
from modernpubmed.errors import ModernPubMedError

GRAPH_NAME = "model.onnx"
#: The graph in eight bits; it lies beside the weights, whose word embeddings it shares.
INT8_NAME = "model_int8.onnx"
#: Where a graph may lie: beside the weights it shares, or as the hub's older models have it.
GRAPH_PLACES = (GRAPH_NAME, f"onnx/{GRAPH_NAME}")
WEIGHTS_NAME, TOKENIZER_NAME = "model.safetensors", "tokenizer.json"

_KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")
_LEGACY_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """The settings of a sentence-transformers folder.

    Attributes:
        path: The folder.
        graph: The fp32 ONNX graph in it, None if it has not been exported.
        int8: The int8 graph in it, None if there is none.
        pooling: How token vectors become one: ``mean``, ``cls`` or ``max``.
        max_tokens: The longest text it reads, special tokens counted.
        lower_case: Whether texts are lower-cased before the tokenizer sees them.
        prompts: What is put before a text, by role (``query``, ``document``).
        dimension: The length of a vector that the pooling step states; None if it does not.
    """

    path: Path
    graph: Path | None
    int8: Path | None
    pooling: str
    max_tokens: int
    lower_case: bool
    prompts: Mapping[str, str]
    dimension: int | None = None


def read_folder(path: Path) -> ModelFolder:
    """Reads the settings of a model folder.

    Raises:
        ModernPubMedError: It is no sentence-transformers folder, has no weights, or has a module
            that we cannot run without torch.
    """
    modules = read_json(path / "modules.json", kind=list)
    names = module_names(path)
    for name in names:
        if name not in _KNOWN_MODULES:
            raise ModernPubMedError(
                f"has a module {name!r}, which only sentence-transformers can run",
                file=path,
                record="modules.json",
                remedy="pip install 'modernpubmed[train]'",
            )
    if names[:2] != ["Transformer", "Pooling"]:
        raise ModernPubMedError(
            "is not a Transformer followed by Pooling",
            file=path,
            record="modules.json",
            remedy="give a sentence-transformers encoder",
        )
    graph = next((path / place for place in GRAPH_PLACES if (path / place).is_file()), None)
    int8 = path / INT8_NAME
    if graph is None and not any(path.glob("*.safetensors")) and not any(path.glob("*.bin")):
        raise ModernPubMedError(
            "no weights: neither model.onnx nor model.safetensors",
            file=path,
            remedy="copy the model folder again, whole",
        )
    settings = _optional_json(path / "sentence_bert_config.json")
    return ModelFolder(
        path=path,
        graph=graph,
        int8=int8 if int8.is_file() else None,
        pooling=_pooling(path / str(modules[1]["path"]) / "config.json"),
        max_tokens=_max_tokens(path, settings),
        lower_case=bool(settings.get("do_lower_case", False)),
        prompts=read_prompts(path),
        dimension=_dimension(path / str(modules[1]["path"]) / "config.json"),
    )


def module_names(path: Path) -> list[str]:
    """The classes of a model folder's modules, in order, without where they are defined.

    Raises:
        ModernPubMedError: ``modules.json`` is missing or broken.
    """
    modules = read_json(path / "modules.json", kind=list)
    return [str(module.get("type", "")).rpartition(".")[2] for module in modules]


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer that lies in a folder, as its file has it.

    Raises:
        ModernPubMedError: ``tokenizer.json`` is missing or broken.
    """
    file = folder / TOKENIZER_NAME
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModernPubMedError(
            f"not a readable tokenizer ({error})", file=file, remedy="copy the folder again"
        ) from error


def read_json(path: Path, kind: type) -> Any:
    """A JSON file whose outermost value is of ``kind``.

    Raises:
        ModernPubMedError: It is missing, broken, or of another kind.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModernPubMedError(
            f"cannot be read ({error})",
            file=path,
            remedy="give a folder that SentenceTransformer.save_pretrained wrote, whole",
        ) from error
    if not isinstance(value, kind):
        raise ModernPubMedError(
            f"holds a {type(value).__name__}, not a {kind.__name__}",
            file=path,
            remedy="copy the model folder again",
        )
    return value


def _optional_json(path: Path) -> dict[str, Any]:
    return dict(read_json(path, kind=dict)) if path.is_file() else {}


def _pooling(path: Path) -> str:
    config = read_json(path, kind=dict)
    mode = config.get("pooling_mode")
    if mode is None:
        active = [name for key, name in _LEGACY_POOLING.items() if config.get(key)]
        mode = active[0] if len(active) == 1 else active
    if mode not in POOLING_MODES or config.get("include_prompt", True) is not True:
        raise ModernPubMedError(
            f"pooling {mode!r} is none of {', '.join(POOLING_MODES)} over all tokens",
            file=path,
            remedy="pip install 'modernpubmed[train]' and load it with sentence-transformers",
        )
    return str(mode)


def _dimension(path: Path) -> int | None:
    config = read_json(path, kind=dict)
    stated = config.get("embedding_dimension", config.get("word_embedding_dimension"))
    return stated if isinstance(stated, int) else None


def _max_tokens(path: Path, settings: Mapping[str, Any]) -> int:
    limits = [settings.get("max_seq_length")]
    if limits[0] is None:
        limits.append(_optional_json(path / "tokenizer_config.json").get("model_max_length"))
    limits.append(_optional_json(path / "config.json").get("max_position_embeddings"))
    numbers = [int(limit) for limit in limits if isinstance(limit, int | float) and limit < 1e9]
    if not numbers:
        raise ModernPubMedError(
            "says nowhere how long a text may be",
            file=path,
            record="max_seq_length",
            remedy="set max_seq_length in sentence_bert_config.json",
        )
    return min(numbers)


def read_prompts(path: Path) -> dict[str, str]:
    """What a model folder puts before a text, by role; ``query`` and ``document`` are among them.

    Raises:
        ModernPubMedError: ``config_sentence_transformers.json`` is broken.
    """
    prompts = _optional_json(path / "config_sentence_transformers.json").get("prompts") or {}
    return {"query": "", "document": "", **prompts}
