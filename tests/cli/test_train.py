"""``qsmbids-train``."""

import pytest

from qsmbids.cli.train import main, recipes
from qsmbids.training.recipe import load_recipe

TINY = """
network = "deepqsm"
steps = {steps}
validate_every = 2
[architecture]
width = 2
[stream]
patch = 24
heads = 1
patches = 4
batch = 2
"""


def test_recipes_that_come_along_can_be_read():
    from qsmbids.cli.train import RECIPES
    assert 'pocsnet2' in recipes()
    for name in recipes():
        recipe = load_recipe(RECIPES / f'{name}.toml')
        assert not set(recipe.anatomies) & set(recipe.validation)


def test_training_goes_on_and_ends_with_weights(tmp_path, capsys):
    from qsmbids.networks.weights import load_weights
    recipe, folder = tmp_path / 'tiny.toml', tmp_path / 'run'
    recipe.write_text(TINY.format(steps=2))
    assert main([str(recipe), str(folder), '--nthreads', '1', '--device', 'cpu']) == 0
    assert '2 of 2 steps' in capsys.readouterr().out
    network, card = load_weights(folder / 'best.safetensors')
    assert card['step'] == 2 and sum(p.numel() for p in network.parameters()) > 0
    assert len((folder / 'log.csv').read_text().splitlines()) == 2


@pytest.mark.parametrize('text, message', [
    ('network = "deepqsm"\nsteps = 2\nanatomies = ["none.nii.gz"]', 'none.nii.gz: is missing; say with --anatomies'),
    ('network = "deepqsm"', 'steps is missing'), ('network = ', 'cannot be read as a recipe'),
    ('network = "deepqsm"\nsteps = 2\nrate = 1', 'rate is no part of a recipe')])
def test_bad_recipes_are_named(tmp_path, capsys, text, message):
    path = tmp_path / 'recipe.toml'
    path.write_text(text)
    assert main([str(path), str(tmp_path / 'run')]) == 1
    assert message in capsys.readouterr().err
