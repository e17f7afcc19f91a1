"""Recipes."""

from importlib import resources

import pytest

from qsmbids.files import FileError
from qsmbids.networks.weights import NETWORKS
from qsmbids.training.loop import make_stream
from qsmbids.training.recipe import find_files, load_recipe

RECIPES = sorted((resources.files('qsmbids') / 'training' / 'recipes').iterdir())


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.name)
def test_every_recipe_that_comes_with_us_makes_its_network_and_stream(path, tmp_path):
    recipe = load_recipe(path)
    network = NETWORKS[recipe.network](**recipe.architecture)
    for name in recipe.anatomies:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    make_stream(recipe, network, tmp_path)
    assert not set(recipe.anatomies) & set(recipe.validation)
    if recipe.unrolls:
        assert max(recipe.unrolls.values()) == network.unrolls


@pytest.mark.parametrize('text, told', [
    ('network = "pocsnet1"', 'steps is missing'),
    ('network = "pocsnet1"\nsteps = 1\nspeed = 2', 'speed is no part of a recipe'),
    ('network = "qsmnet"\nsteps = 1', "network is 'qsmnet', must be one of"),
    ('network = "sharqnet"\nsteps = 1\n[architecture]\nunrolls = 2', 'unrolls is no part of sharqnet'),
    ('network = "sharqnet"\nsteps = 1\n[stream]\nsize = 2', 'size is no part of a stream'),
    ('network = "sharqnet"\nsteps = 1\n[stream]\ntarget = "chi"', 'target is no part of a stream'),
    ('network = ', 'cannot be read'),
])
def test_errors_name_the_file_and_what_is_wrong(tmp_path, text, told):
    path = tmp_path / 'mine.toml'
    path.write_text(text)
    with pytest.raises(FileError, match=f'mine.toml: .*{told}'):
        load_recipe(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileError, match='none.toml'):
        load_recipe(tmp_path / 'none.toml')


def test_patterns_stand_for_the_files_that_there_are(tmp_path):
    for name in ('sub-2_field.nii', 'sub-1_field.nii', 'other.nii'):
        (tmp_path / name).touch()
    assert [path.name for path in find_files(tmp_path, ['sub-*_field.nii', 'other.nii'])] == [
        'sub-1_field.nii', 'sub-2_field.nii', 'other.nii']
    for name in ('sub-3.nii', 'run-*.nii'):
        with pytest.raises(FileError, match='is missing; say with --anatomies'):
            find_files(tmp_path, [name])
