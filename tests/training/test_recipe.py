from __future__ import annotations

from pathlib import Path

import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.training.recipe import read_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
MINI = """\
name = "ModernPubMed-mini"
license = "apache-2.0"
base = "sentence-transformers/all-MiniLM-L6-v2"
max_tokens = 256

[[sources]]
name = "title-abstract"
positive_tokens = 128
batch_size = 128

[loss]
temperature = 0.05
symmetric = true

[optimizer]
learning_rate = 5e-5
weight_decay = 0.01
warmup_steps = 16
schedule = "linear"

[run]
steps = 160
seed = 42
precision = "fp32"
checkpoint_every = 20
evaluate_every = 40
dev_pairs = 500
"""


def test_the_published_recipe_is_exactly_as_published():
    recipe = read_recipe(RECIPES / "modernpubmedbert.toml")
    assert recipe.base == "thomas-sounack/BioClinical-ModernBERT-base"
    assert recipe.max_tokens == 2048
    (source,) = recipe.sources
    assert (source.anchor_tokens, source.positive_tokens) == (2048, 2048)
    assert (source.batch_size, source.negatives, source.contrast) == (72, 0, "none")
    assert recipe.optimizer.learning_rate == 3e-4
    assert recipe.optimizer.weight_decay == 0.1
    assert recipe.optimizer.warmup_steps == 700
    assert recipe.run.steps == 7000


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_we_ship_can_be_read(path: Path):
    assert read_recipe(path).name


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch_size = ", "batch_sise = ", "sources[0].batch_sise: unknown key"),
        ("positive_tokens = ", "#", "sources[0].positive_tokens: missing key"),
        (
            "batch_size = ",
            'batch_size = "a" #',
            "sources[0].batch_size: must be of type int, is str",
        ),
        ("batch_size = ", "batch_size = 1.5 #", "must be of type int, is float"),
        ("symmetric = ", "symmetric = 1 #", "loss.symmetric: must be of type bool, is int"),
        ("temperature = ", "temperature = true #", "must be of type float, is bool"),
        ("temperature = ", "temperature = 0 #", "loss.temperature: is 0, must be a number above 0"),
        ("temperature = ", "temperature = nan #", "must be a number above 0"),
        ("learning_rate = ", "learning_rate = inf #", "must be a number above 0"),
        ("weight_decay = ", "weight_decay = nan #", "must be at least 0"),
        ("steps = ", "steps = 0 #", "run.steps: is 0, must be at least 1"),
        ("schedule = ", 'schedule = "magic" #', "'magic' is none of linear, cosine, constant"),
        ("[loss]", "[lost]", "lost: unknown key"),
        ("batch_size = ", "#", "sources[0]: needs either batch_size or batch_tokens"),
        ("batch_size = ", "batch_tokens = 9000\nbatch_size = ", "needs either batch_size or"),
        (
            "batch_size = ",
            "batch_tokens = 9 #",
            "sources[0].batch_tokens: is 9, must be at least 64",
        ),
        (
            "batch_size = ",
            "batches = 'subject'\nbatch_tokens = 9000 #",
            "sources[0].batches: by subject need batch_size",
        ),
        ("batch_size = ", "batches = 'size'\nbatch_size = ", "'size' is none of length, subject"),
        ("positive_tokens = ", "weight = 0\npositive_tokens = ", "sources[0].weight: is 0, must"),
        ("[[sources]]", "[sources]", "sources: must be a list"),
        ("symmetric = ", "matryoshka = [64, 1]\nsymmetric = ", "loss.matryoshka[1]: is 1, must be"),
        ("symmetric = ", "matryoshka = 64\nsymmetric = ", "loss.matryoshka: must be a list"),
        ("symmetric = ", "#", "sources[0].contrast: needs loss.symmetric = true"),
        ("[loss]", "[[loss]]", "loss: must be a table"),
        ("[loss]", "[loss", "not a readable TOML file"),
    ],
)
def test_a_wrong_recipe_names_file_and_key(tmp_path: Path, old: str, new: str, message: str):
    path = tmp_path / "wrong.toml"
    # With a contrast, so that what needs another key is there to be refused.
    text = MINI.replace("batch_size = 128", "batch_size = 128\ncontrast = 'queries'")
    lines = [new + line[len(old) :] if line.startswith(old) else line for line in text.splitlines()]
    path.write_text("\n".join(lines))
    with pytest.raises(ModernPubMedError) as caught:
        read_recipe(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_a_whole_number_does_for_a_real_one(tmp_path: Path):
    path = tmp_path / "recipe.toml"
    path.write_text(MINI.replace("weight_decay = 0.01", "weight_decay = 0"))
    assert read_recipe(path).optimizer.weight_decay == 0.0


def test_a_missing_recipe_is_refused(tmp_path: Path):
    with pytest.raises(ModernPubMedError, match=r"none\.toml"):
        read_recipe(tmp_path / "none.toml")


def test_sources_of_one_name_are_refused(tmp_path: Path):
    path = tmp_path / "recipe.toml"
    table = MINI[MINI.index("[[sources]]") : MINI.index("[loss]")]
    path.write_text(MINI.replace(table, table + table))
    with pytest.raises(ModernPubMedError, match="of different names"):
        read_recipe(path)


def test_what_a_recipe_leaves_out_has_its_default(tmp_path: Path):
    path = tmp_path / "recipe.toml"
    path.write_text(MINI + "\n[masks]\nmesh_overlap = 0.7\n")
    recipe = read_recipe(path)
    assert (recipe.masks.mesh_overlap, recipe.masks.guide) == (0.7, "")
    assert recipe.loss.matryoshka == ()
    assert read_recipe(RECIPES / "mini.toml").masks.mesh_overlap == 0.4
