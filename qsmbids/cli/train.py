"""``qsmbids-train RECIPE FOLDER``: train a network, or go on with a training that was stopped."""

import argparse
import os
from importlib import resources
from pathlib import Path

from qsmbids.cli.about import add_about
from qsmbids.cli.environment import run_command
from qsmbids.files import FileError

RECIPES = resources.files('qsmbids') / 'training' / 'recipes'


def build_parser():
    """Return the argument parser."""
    parser = argparse.ArgumentParser(
        prog='qsmbids-train', allow_abbrev=False,
        description='Train a network on simulated heads. Stopped at any time, it goes on where the last checkpoint was '
                    'when it is called again; what it makes does not depend on that. FOLDER/best.safetensors holds the '
                    'weights with the best scores on heads that no training uses: name it as the method\'s weights, '
                    'qsmbids-tool invert --method pocsnet2 -p weights=FOLDER/best.safetensors.')
    parser.add_argument('recipe', help='TOML file, or the name of one that comes with qsmbids: ' + ', '.join(recipes()))
    parser.add_argument('folder', type=Path, help='gets checkpoint, log.csv and weights')
    add_about(parser)
    parser.add_argument('--anatomies', type=Path, default=Path('.'), metavar='FOLDER',
                        help='where the label maps or fields that the recipe names are [.]')
    parser.add_argument('--minutes', type=float, help='stop after that')
    parser.add_argument('--device', choices=('auto', 'cpu', 'cuda'), default='auto',
                        help='auto takes the GPU if there is one [auto]')
    parser.add_argument('--nthreads', type=int, metavar='N', help='on the CPU [all]')
    return parser


def recipes():
    """Return the names of the recipes that come with qsmbids."""
    return sorted(entry.name.removesuffix('.toml') for entry in RECIPES.iterdir() if entry.name.endswith('.toml'))


def main(arguments=None):
    """Train and return the exit code: 0 done or stopped in time, 1 failed, 2 wrong command line."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    return run_command('qsmbids-train', lambda: run_train(options))


def run_train(options):
    import torch

    from qsmbids.training.loop import train
    from qsmbids.training.recipe import find_files, load_recipe
    if options.device == 'cuda' and not torch.cuda.is_available():
        raise FileError('--device cuda: torch finds no GPU here')
    device = options.device
    if device == 'auto':
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    torch.set_num_threads(options.nthreads or len(os.sched_getaffinity(0)))
    path = RECIPES / f'{options.recipe}.toml' if options.recipe in recipes() else options.recipe
    recipe = load_recipe(path)
    find_files(options.anatomies, [*recipe.anatomies, *recipe.validation])
    steps = train(recipe, options.folder, anatomies_folder=options.anatomies, device=device, minutes=options.minutes)
    print(f'{options.folder}: {steps} of {recipe.steps} steps'
          + ('' if steps == recipe.steps else '; the same command goes on'))
