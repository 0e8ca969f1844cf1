from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from modernpubmed.encoder import Encoder, TruncationWarning
from modernpubmed.encoder.export import export, halve_weights
from modernpubmed.errors import MissingExtraError, ModernPubMedError
from modernpubmed.manifest import sha256

TEXTS = [
    "fever and cough in children",
    "",
    "Acute KIDNEY failure after heart surgery",
    "unknownword zebra",
    "insulin for diabetes " * 30,
    "  spaces   around  ",
]


@pytest.fixture(scope="module")
def exported(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "tiny"
    shutil.copytree(tiny_model, folder)
    export(folder)
    return folder


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def reference(folder: Path, texts: list[str]) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    return np.asarray(model.encode(texts, normalize_embeddings=True))


@pytest.mark.filterwarnings("ignore::modernpubmed.encoder.TruncationWarning")
def test_graph_agrees_with_sentence_transformers(exported: Path):
    ours = Encoder.load(exported).encode(TEXTS)
    theirs = reference(exported, TEXTS)
    assert ours.dtype == np.float32
    assert ours.shape == (6, 32)
    np.testing.assert_allclose((ours * theirs).sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_graph_holds_no_weights_of_its_own(exported: Path):
    weights = (exported / "model.safetensors").stat().st_size
    assert (exported / "model.onnx").stat().st_size < weights
    import onnx

    graph = onnx.load(str(exported / "model.onnx"), load_external_data=False).graph
    large = [i for i in graph.initializer if np.prod(i.dims) >= 256 and i.data_type != 7]
    assert large
    assert all(i.data_location == onnx.TensorProto.EXTERNAL for i in large)


def test_half_weights_agree_too_and_torch_reads_them_in_fp32(copy: Path):
    before = (copy / "model.safetensors").stat().st_size
    export(copy, half=True)
    assert (copy / "model.safetensors").stat().st_size < 0.6 * before
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(copy), device="cpu")
    assert {str(p.dtype) for p in model.parameters()} == {"torch.float32"}
    texts = TEXTS[:4]
    np.testing.assert_allclose(Encoder.load(copy).encode(texts), reference(copy, texts), atol=1e-5)


def test_a_weight_beyond_half_precision_is_refused(copy: Path):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    name = next(iter(tensors))
    tensors[name] = tensors[name] + np.float32(1e6)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    digest = sha256(copy / "model.safetensors")
    with pytest.raises(ModernPubMedError, match="not finite in fp16"):
        halve_weights(copy)
    assert sha256(copy / "model.safetensors") == digest


def test_order_and_batches_do_not_matter(exported: Path):
    encoder = Encoder.load(exported)
    texts = TEXTS[:4] * 5
    whole = encoder.encode(texts)
    np.testing.assert_allclose(encoder.encode(texts, batch_size=3), whole, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(texts[::-1])[::-1], whole, atol=1e-5)


def test_cut_texts_are_counted_and_said(exported: Path):
    encoder = Encoder.load(exported)
    assert encoder.max_tokens == 48
    with pytest.warns(TruncationWarning, match=r"1 of 6 texts are longer than 48 tokens"):
        encoder.encode(TEXTS)
    assert encoder.truncated == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode(["fever " * 46])  # with [CLS] and [SEP]: exactly 48
    assert encoder.truncated == 1
    with pytest.warns(TruncationWarning):
        encoder.encode(["fever " * 47])
    assert encoder.truncated == 2


def test_a_shorter_length_can_be_asked_for_but_not_a_longer_one(exported: Path):
    assert Encoder.load(exported, max_tokens=8).max_tokens == 8
    assert Encoder.load(exported, max_tokens=4096).max_tokens == 48
    with pytest.raises(ModernPubMedError, match="max_tokens"):
        Encoder.load(exported, max_tokens=0)


def test_prompts_come_from_the_model(copy: Path):
    config = json.loads((copy / "config_sentence_transformers.json").read_text())
    config["prompts"] = {"query": "heart ", "document": ""}
    (copy / "config_sentence_transformers.json").write_text(json.dumps(config))
    encoder = Encoder.load(copy)
    assert encoder.prompts["query"] == "heart "
    expected = encoder.encode(["heart failure"])
    np.testing.assert_array_equal(encoder.encode_query(["failure"]), expected)
    assert not np.allclose(encoder.encode_document(["failure"]), expected)


def test_similarity_takes_texts_or_vectors(exported: Path):
    encoder = Encoder.load(exported)
    vectors = encoder.encode(["fever", "cough"])
    similarity = encoder.similarity(["fever", "cough"], vectors)
    assert similarity.shape == (2, 2)
    np.testing.assert_allclose(np.diag(similarity), 1, atol=1e-6)


def test_no_texts_give_no_vectors(exported: Path):
    assert Encoder.load(exported).encode([]).shape == (0, 32)


@pytest.mark.parametrize("texts", ["fever", ["fever", 3], ["fever", None]])
def test_what_is_not_a_list_of_strings_is_refused(exported: Path, texts: object):
    with pytest.raises(ModernPubMedError, match="string"):
        Encoder.load(exported).encode(texts)  # type: ignore[arg-type]


def test_a_folder_of_links_like_the_hubs_cache(exported: Path, tmp_path: Path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    for file in exported.rglob("*"):
        if file.is_file():
            relative = file.relative_to(exported)
            blob = blobs / sha256(file)
            blob.parent.mkdir(exist_ok=True)
            shutil.copy(file, blob)
            (snapshot / relative).parent.mkdir(parents=True, exist_ok=True)
            (snapshot / relative).symlink_to(blob)
    np.testing.assert_allclose(
        Encoder.load(snapshot).encode(TEXTS[:3]), Encoder.load(exported).encode(TEXTS[:3])
    )


@pytest.mark.filterwarnings("ignore::modernpubmed.encoder.TruncationWarning")
def test_a_folder_without_a_graph_falls_back_to_sentence_transformers(
    tiny_model: Path, exported: Path
):
    fallback, graph = Encoder.load(tiny_model), Encoder.load(exported)
    np.testing.assert_allclose(fallback.encode(TEXTS), graph.encode(TEXTS), atol=1e-5)
    assert fallback.truncated == graph.truncated == 1
    assert (fallback.dimension, fallback.max_tokens) == (graph.dimension, graph.max_tokens)


def test_without_graph_and_without_the_extra_the_extra_is_named(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"modernpubmed\[train\]"):
        Encoder.load(tiny_model)


def test_weights_that_changed_after_the_export_are_refused(copy: Path):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    save_file(
        {name: tensor * 2 for name, tensor in tensors.items() if tensor.dtype == np.float32},
        copy / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ModernPubMedError, match=r"other weights.*modernpubmed export"):
        Encoder.load(copy)


def test_a_weight_that_is_not_a_number_is_refused(copy: Path):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"][:] = np.nan
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    (copy / "model.onnx").unlink()
    with pytest.raises(ModernPubMedError, match="not finite"):
        Encoder.load(copy).encode(["fever"])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "model"),
        (lambda f: (f / "model.onnx").write_bytes(b"junk"), "onnxruntime cannot load"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "tokenizer"),
        (lambda f: (f / "modules.json").write_text("["), "modules.json"),
        (lambda f: (f / "modules.json").unlink(), "modules.json"),
        (lambda f: (f / "1_Pooling" / "config.json").write_text('{"pooling_mode": "x"}'), "x"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(copy: Path, damage, message: str):
    damage(copy)
    with pytest.raises(ModernPubMedError, match=message) as caught:
        Encoder.load(copy)
    assert "\n" not in str(caught.value)
    assert str(copy) in str(caught.value)


def test_another_dimension_than_the_folder_states_is_refused(copy: Path):
    file = copy / "1_Pooling" / "config.json"
    config = json.loads(file.read_text())
    key = next(key for key in config if key.endswith("embedding_dimension"))
    file.write_text(json.dumps({**config, key: 31}))
    with pytest.raises(ModernPubMedError, match="vectors of 32 numbers, where its folder says 31"):
        Encoder.load(copy)


def test_a_folder_without_weights_is_refused(copy: Path):
    (copy / "model.safetensors").unlink()
    (copy / "model.onnx").unlink()
    with pytest.raises(ModernPubMedError, match="no weights"):
        Encoder.load(copy)


def test_a_module_we_cannot_run_is_refused(copy: Path):
    modules = json.loads((copy / "modules.json").read_text())
    modules.append(
        {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.Dense"}
    )
    (copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModernPubMedError, match="Dense"):
        Encoder.load(copy)


def test_a_name_that_is_nowhere_is_refused(tmp_path: Path):
    with pytest.raises(ModernPubMedError, match="not to be had from the hub"):
        Encoder.load("nobody/no-such-model")
    with pytest.raises(ModernPubMedError, match="not to be had from the hub"):
        Encoder.load(tmp_path / "missing")


@pytest.mark.parametrize("mode", ["cls", "max"])
def test_other_poolings(copy: Path, mode: str):
    config = json.loads((copy / "1_Pooling" / "config.json").read_text())
    (copy / "1_Pooling" / "config.json").write_text(json.dumps({**config, "pooling_mode": mode}))
    texts = TEXTS[:4]
    np.testing.assert_allclose(Encoder.load(copy).encode(texts), reference(copy, texts), atol=1e-5)


@pytest.mark.filterwarnings("ignore::modernpubmed.encoder.TruncationWarning")
def test_the_older_spelling_of_the_settings(copy: Path):
    (copy / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True})
    )
    (copy / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 16, "do_lower_case": False})
    )
    encoder = Encoder.load(copy)
    assert encoder.max_tokens == 16
    np.testing.assert_allclose(encoder.encode(TEXTS[:4]), reference(copy, TEXTS[:4]), atol=1e-5)


def test_encoding_imports_nothing_heavy():
    code = (
        "import sys, modernpubmed\n"
        "modernpubmed.Encoder.load().encode(['fever'])\n"
        "heavy = {'torch', 'transformers', 'pandas', 'lancedb', 'fastapi'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_shipped_model_agrees_with_sentence_transformers():
    from modernpubmed.encoder.encoder import SHIPPED_MODEL

    texts = ["Chest pain on exertion.", "", "HbA1c 9.2 %", "a long abstract " * 40]
    theirs = reference(SHIPPED_MODEL, texts)
    full = Encoder.load(precision="float32").encode(texts)
    assert (full * theirs).sum(axis=1).min() >= 0.9999
    # What runs unless asked otherwise is the int8 graph: near, on what somebody may have written.
    quick = Encoder.load().encode(texts)
    assert (quick * theirs).sum(axis=1)[[0, 2]].min() > 0.99
    assert not np.array_equal(quick, full)
