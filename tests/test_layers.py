"""The direction of dependency, as docs/architecture.md states it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import qsmbids

PACKAGE = Path(qsmbids.__file__).parent
# A file imports only from its own layer or one with a lower number.
LAYERS = {'core': 0, 'files': 0, 'ages': 0, 'networks': 1, 'headers': 1, 'simulation': 1, 'bids': 1, 'templates': 1,
          'segmentations': 1, 'config': 1, 'training': 2, 'reports': 2, 'interfaces': 3, 'workflows': 4, 'cli': 5,
          '__main__': 6}
# Whose files import torch at their top; whoever uses them does so within a function.
LEARNING, TORCHLESS = ('networks', 'training'), {'qsmbids.networks.shipped'}
HEAVY = {'torch', 'bids', 'matplotlib', 'ants', 'nipype', 'pandas', 'templateflow', 'jinja2', 'skimage', 'PIL',
         'contourpy'}
MODULES = sorted(p for p in PACKAGE.rglob('*.py'))


def imports(tree, top_level_only=False):
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, 'imports are absolute'
            assert all(alias.name != '*' for alias in node.names)
            yield node.module


def layer(path):
    return path.relative_to(PACKAGE).with_suffix('').parts[0]


@pytest.mark.parametrize('path', MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    tree = ast.parse(path.read_text())
    own = layer(path)
    if own == '__init__':
        return
    for name in imports(tree):
        parts = name.split('.')
        if parts[0] == 'qsmbids' and len(parts) > 1:
            assert LAYERS[parts[1]] <= LAYERS[own], f'{own} must not import {name}'


@pytest.mark.parametrize('path', [p for p in MODULES if layer(p) == 'core'], ids=lambda p: p.name)
def test_core_is_arrays_in_arrays_out(path):
    allowed = {'numpy', 'scipy', 'numba', 'qsmbids', *sys.stdlib_module_names} - {'logging', 'pathlib'}
    allowed |= {'skimage'} if path.name == 'unwrap.py' else set()
    assert {name.split('.')[0] for name in imports(ast.parse(path.read_text()))} <= allowed


@pytest.mark.parametrize('path', [p for p in MODULES if layer(p) not in ('interfaces', 'workflows')],
                         ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_where_they_are_needed(path):
    names = list(imports(ast.parse(path.read_text()), top_level_only=True))
    heavy = HEAVY - {'torch'} if layer(path) in LEARNING else HEAVY
    assert not {name.split('.')[0] for name in names} & heavy
    if layer(path) not in LEARNING:
        assert not {name for name in names if name.split('.')[1:2] in (['networks'], ['training'])} - TORCHLESS


def test_only_base_reads_the_configuration():
    for path in MODULES:
        if layer(path) in ('interfaces', 'workflows', 'core', 'reports'):
            assert 'qsmbids.config' not in set(imports(ast.parse(path.read_text()))), path


def test_importing_the_package_is_light():
    code = ('import sys, qsmbids; print(sorted({"nipype", "bids", "torch", "matplotlib", "numpy"} & set(sys.modules)))')
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                          check=True).stdout.strip() == '[]'


def test_no_command_looks_for_its_kernels_before_their_cache_has_a_place():
    """In a read-only image numba fails as soon as a kernel is defined whose cache cannot be written."""
    modules = [f'qsmbids.cli.{path.stem}' for path in (PACKAGE / 'cli').glob('*.py')]
    code = f'import importlib, sys; [importlib.import_module(name) for name in {modules}]; print("numba" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                          check=True).stdout.strip() == 'False'
