"""The int8 graph: near the full one, the same in any company, and refused where it drifts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from modernpubmed.encoder import Encoder
from modernpubmed.encoder.encoder import SHIPPED_MODEL
from modernpubmed.encoder.export import export
from modernpubmed.encoder.folder import INT8_NAME
from modernpubmed.encoder.int8 import Scale, export_int8
from modernpubmed.errors import ModernPubMedError

TEXTS = [
    "fever and cough in children",
    "",
    "Acute KIDNEY failure after heart surgery",
    "insulin for diabetes " * 8,
    "randomised trial of high dose insulin in patients with stroke",
]


@pytest.fixture(scope="module")
def exported(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8") / "tiny"
    shutil.copytree(tiny_model, folder)
    export(folder)
    export_int8(folder, TEXTS)
    return folder


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def test_int8_is_near_float32_and_is_what_runs(exported: Path):
    full = Encoder.load(exported, precision="float32").encode(TEXTS)
    for precision in ("auto", "int8"):
        vectors = Encoder.load(exported, precision=precision).encode(TEXTS)
        cosines = (vectors * full).sum(axis=1)
        assert cosines.min() > 0.99
        assert not np.array_equal(vectors, full)  # it is the other graph


def test_each_graph_has_its_own_fingerprint(exported: Path):
    full = Encoder.load(exported, precision="float32")
    eight = Encoder.load(exported)
    assert full.fingerprint != eight.fingerprint
    assert eight.fingerprint == Encoder.load(exported, precision="int8").fingerprint


def test_a_vector_does_not_depend_on_the_company(exported: Path):
    encoder = Encoder.load(exported, threads=2)
    together = encoder.encode([*TEXTS, *TEXTS[::-1], "fever " * 40])
    for row, text in enumerate(TEXTS):
        np.testing.assert_allclose(encoder.encode([text])[0], together[row], atol=1e-6)


def test_padding_is_masked(exported: Path):
    """We never pad, but whoever runs the graph elsewhere does."""
    session = Encoder.load(exported)._model.session  # type: ignore[attr-defined]
    ids = np.array([[2, 70, 71, 3]])
    alone = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
    padded = np.array([[2, 70, 71, 3, 0, 0], [2, 71, 72, 73, 74, 3]])
    mask = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    beside = session.run(None, {"input_ids": padded, "attention_mask": mask})[0]
    np.testing.assert_allclose(beside[0, :4], alone[0], atol=1e-5)


def test_the_words_are_shared_and_the_rest_is_in_eight_bits(exported: Path):
    graph = onnx.load(str(exported / INT8_NAME), load_external_data=False).graph
    external = [c.name for c in graph.initializer if c.data_location == onnx.TensorProto.EXTERNAL]
    assert external == ["stored.words"]
    eight = [c for c in graph.initializer if c.data_type == onnx.TensorProto.INT8]
    assert len(eight) == 2 * 6  # layers × linear maps
    assert not {"MatMul", "Gemm"} & {node.op_type for node in graph.node}


def test_calibration_decides_and_repeats(copy: Path):
    before = (copy / INT8_NAME).read_bytes()
    export_int8(copy, TEXTS)
    assert (copy / INT8_NAME).read_bytes() == before
    export_int8(copy)
    assert (copy / INT8_NAME).read_bytes() != before


def test_rounding_covers_its_range_in_255_steps():
    scale = Scale(np.array([1, 2], np.float32), np.float32(0.1), np.uint8(100))
    x = np.array([[-10.0, 31.0], [15.6, 0.0], [99.0, -99.0]], np.float32)
    np.testing.assert_allclose(
        scale.round(x), [[-10.0, 15.5], [15.5, 0.0], [15.5, -10.0]], atol=1e-5
    )


def test_without_an_int8_graph_auto_is_float32_and_int8_is_refused(copy: Path):
    (copy / INT8_NAME).unlink()
    full = Encoder.load(copy, precision="float32").encode(TEXTS)
    np.testing.assert_array_equal(Encoder.load(copy).encode(TEXTS), full)
    with pytest.raises(ModernPubMedError, match=r"no int8 graph.*export .* --int8"):
        Encoder.load(copy, precision="int8")
    with pytest.raises(ModernPubMedError, match=r"precision is 'int4'.*auto, float32, int8"):
        Encoder.load(copy, precision="int4")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("weight", "cosine"), [(np.linspace(-1, 1, 32), r"-?0\.\d{4}"), (np.full(32, np.nan), "nan")]
)
def test_drift_and_nan_are_refused_with_both_numbers(copy: Path, weight: np.ndarray, cosine: str):
    graph = onnx.load(str(copy / INT8_NAME), load_external_data=False)
    norm = next(c for c in graph.graph.initializer if list(c.dims) == [32] and c.data_type == 1)
    norm.raw_data = weight.astype(np.float32).tobytes()
    (copy / INT8_NAME).write_bytes(graph.SerializeToString())
    with pytest.raises(ModernPubMedError, match=rf"cosine {cosine}, where 0\.99 is the least"):
        Encoder.load(copy, precision="int8")
    with pytest.warns(UserWarning, match=rf"cosine {cosine}.*float32 graph runs instead"):
        given = Encoder.load(copy).encode(TEXTS)
    full = Encoder.load(copy, precision="float32").encode(TEXTS)
    np.testing.assert_array_equal(given, full)


def test_the_full_graph_is_asked_too(copy: Path):
    probes = json.loads((copy / "probes.json").read_text())
    probes["vectors"][2] = probes["vectors"][1]
    (copy / "probes.json").write_text(json.dumps(probes))
    with pytest.raises(ModernPubMedError, match=r"probe 2.*where 0\.9999 is the least"):
        Encoder.load(copy, precision="float32")


@pytest.mark.parametrize("damage", ["[]", "{}", '{"texts": ["a"], "max_tokens": 8, "vectors": []}'])
def test_damaged_probes_are_refused(copy: Path, damage: str):
    (copy / "probes.json").write_text(damage)
    with pytest.raises(ModernPubMedError, match=r"probes\.json"):
        Encoder.load(copy)


def test_an_export_of_other_weights_leaves_no_stale_graph(copy: Path):
    export(copy)
    assert (copy / INT8_NAME).is_file()
    export(copy, half=True)
    assert not (copy / INT8_NAME).exists()
    export_int8(copy, TEXTS)
    assert Encoder.load(copy, precision="int8").encode(TEXTS).shape == (5, 32)


def test_other_weights_are_refused(copy: Path):
    from modernpubmed.encoder.export import halve_weights

    halve_weights(copy)
    with pytest.raises(ModernPubMedError, match=r"other weights.*export .* --int8"):
        Encoder.load(copy)


@pytest.mark.parametrize(("key", "value"), [("model_type", "modernbert"), ("hidden_act", "relu")])
def test_what_is_no_such_bert_is_refused(copy: Path, key: str, value: str):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, key: value}))
    before = (copy / INT8_NAME).read_bytes()
    with pytest.raises(ModernPubMedError, match=f"{key} is '{value}'.*without --int8"):
        export_int8(copy, TEXTS)
    assert (copy / INT8_NAME).read_bytes() == before


def test_a_graph_too_far_off_is_not_left_behind(copy: Path):
    probes = json.loads((copy / "probes.json").read_text())
    probes["vectors"] = probes["vectors"][::-1]
    (copy / "probes.json").write_text(json.dumps(probes))
    with pytest.raises(ModernPubMedError, match="cosine"):
        export_int8(copy, TEXTS)
    assert not (copy / INT8_NAME).exists()


def test_no_texts_are_refused(copy: Path):
    with pytest.raises(ModernPubMedError, match="no texts"):
        export_int8(copy, [])


@pytest.mark.slow
def test_the_shipped_model_in_int8(tmp_path: Path):
    folder = Path(shutil.copytree(SHIPPED_MODEL, tmp_path / "shipped"))
    export(folder)
    graph = export_int8(folder)
    assert graph.stat().st_size < 13_000_000
    texts = ["Chest pain on exertion.", "HbA1c 9.2 %", "", "a long abstract " * 40]
    cosines = (
        Encoder.load(folder).encode(texts) * Encoder.load(folder, precision="float32").encode(texts)
    ).sum(axis=1)
    # What nobody wrote (nothing at all, one phrase forty times) may be rounded more coarsely.
    assert cosines[:2].min() > 0.99
    assert cosines.min() > 0.95
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    for precision in ("float32", "int8"):
        with pytest.raises(ModernPubMedError, match="other vectors on this processor"):
            Encoder.load(folder, precision=precision)
