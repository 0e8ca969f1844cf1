from __future__ import annotations

from pathlib import Path

import pytest

from modernpubmed.errors import ModernPubMedError
from modernpubmed.training.recipe import read_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
MINI = (RECIPES / "mini.toml").read_text()


def test_the_published_recipe_is_exactly_as_published():
    recipe = read_recipe(RECIPES / "modernpubmedbert.toml")
    assert recipe.base == "thomas-sounack/BioClinical-ModernBERT-base"
    assert (recipe.tokens.train, recipe.tokens.serve) == (2048, 2048)
    assert recipe.optimizer.learning_rate == 3e-4
    assert recipe.optimizer.weight_decay == 0.1
    assert recipe.optimizer.warmup_steps == 700
    assert (recipe.run.batch_size, recipe.run.steps) == (72, 7000)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_we_ship_can_be_read(path: Path):
    assert read_recipe(path).name


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch_size = ", "batch_sise = ", "run.batch_sise: unknown key"),
        ("batch_size = ", "#", "run.batch_size: missing key"),
        ("batch_size = ", 'batch_size = "a" #', "run.batch_size: must be of type int, is str"),
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
        ("[tokens]", "[[tokens]]", "tokens: must be a table"),
        ("[tokens]", "[tokens", "not a readable TOML file"),
    ],
)
def test_a_wrong_recipe_names_file_and_key(tmp_path: Path, old: str, new: str, message: str):
    path = tmp_path / "wrong.toml"
    lines = [new + line[len(old) :] if line.startswith(old) else line for line in MINI.splitlines()]
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
