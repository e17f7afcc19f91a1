"""The documentation: its examples run, its links lead somewhere, and nothing that a user can choose is left out."""

import argparse
import ast
import doctest
import importlib.util
import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS, PACKAGE = ROOT / 'docs', ROOT / 'qsmbids'
PAGES = sorted(path for path in DOCS.rglob('*.md') if '_generated' not in path.parts)
TEXTS = [*PAGES, ROOT / 'README.md', ROOT / 'docker' / 'README.md']
WITH_EXAMPLES = sorted(path for path in PACKAGE.rglob('*.py') if '    >>> ' in path.read_text())
# What a user of arrays calls first; each has an example.
SHOWN = ('core.reconstruct:reconstruct', 'core.phase:phase_to_radians', 'core.unwrap:unwrap_romeo',
         'core.fieldmap:total_field', 'core.dipole:forward_field', 'core.background.pdf:remove_background_pdf',
         'core.background.sharp:remove_background_vsharp', 'core.inversion.variational:invert_tv',
         'core.inversion.medi:invert_medi', 'core.inversion.solve:solve',
         'core.inversion.strength:automatic_strength', 'core.relaxometry:fit_r2star',
         'core.separation:separate_sources', 'core.regions:reference_chi', 'core.metrics:nrmse',
         'core.consistency:backward_kernel', 'networks.segmentation:segment', 'simulation.head:digital_head',
         'simulation.signal:simulate')


def load(path):
    """Import a script that lies in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def generated():
    return load(DOCS / 'generated.py')


@pytest.fixture(scope='module')
def commands():
    return load(ROOT / 'benchmarks' / 'figures.py').COMMANDS


def without_code(text):
    """Return a page without its blocks of code and what its directives hold."""
    kept, fence = [], ''
    for line in text.splitlines():
        mark = re.match(r'\s*(`{3,}|:{3,})', line)
        if fence:
            fence = '' if mark and line.strip() == fence else fence
        elif mark:
            fence = mark[1]
        else:
            kept.append(line)
    return '\n'.join(kept)


def anchors(text):
    """Return the anchors that the headings of a page have, as GitHub and MyST make them."""
    found = []
    for heading in re.findall(r'^#+ (.+)$', without_code(text), re.MULTILINE):
        slug = re.sub(r'[^\w\- ]', '', re.sub(r'[`*\\]', '', heading).strip().lower()).replace(' ', '-')
        found.append(slug if slug not in found else f'{slug}-{found.count(slug)}')
    return found


@pytest.mark.parametrize('path', WITH_EXAMPLES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_examples_in_docstrings_say_what_comes_out(path):
    name = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
    failed, tried = doctest.testmod(import_module(name))
    assert tried and not failed


@pytest.mark.parametrize('path', [path for path in PAGES if '>>> ' in path.read_text()], ids=lambda path: path.name)
def test_examples_in_pages_say_what_comes_out(path):
    failed, tried = doctest.testfile(str(path), module_relative=False)
    assert tried and not failed


@pytest.mark.parametrize('place', SHOWN)
def test_main_functions_have_an_example(place):
    module, function = place.split(':')
    assert '>>> ' in getattr(import_module(f'qsmbids.{module}'), function).__doc__


@pytest.mark.parametrize('path', TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_pictures_lead_somewhere(path):
    text = without_code(path.read_text())
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if target.startswith(('http://', 'https://')):
            continue
        name, _, anchor = target.partition('#')
        there = path.parent / name if name else path
        assert there.exists(), f'{target} is not there'
        if anchor:
            assert anchor in anchors(there.read_text()), f'{target}: no such heading'
    for name in re.findall(r'`((?:qsmbids|benchmarks|docs|docker|examples|tests|data)/[\w./]+)`', text):
        assert (ROOT / name).exists() or (PACKAGE / name).exists(), f'{name} is named but not there'


@pytest.mark.parametrize('path', PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_roles_and_includes_lead_somewhere(path, generated):
    text = path.read_text()
    for name in re.findall(r'\{(?:literal)?include\} (\S+)', text):
        assert (path.parent / name).is_file(), name
    for name in re.findall(r'\{doc\}`(?:[^`<]*<)?([^`>]+)>?`', text):
        base = DOCS / name.lstrip('/') if name.startswith('/') else path.parent / name
        assert base.with_suffix('.md').is_file(), name
    labels = set(re.findall(r'^\(([\w-]+)\)=$', '\n'.join(page.read_text() for page in PAGES), re.MULTILINE))
    labels |= set(re.findall(r'^\(([\w-]+)\)=$', generated.references() + generated.cards(), re.MULTILINE))
    made = [getattr(generated, call[0])(*call[1:]) for call in
            (found.split() for found in re.findall(r'\{generated\} (.+)', text))]
    for name in re.findall(r'\{ref\}`(?:[^`<]*<)?([^`>]+)>?`', '\n'.join([text, *made])):
        assert name in labels, name
    assert all(made), 'something generated is empty'


def test_messages_of_the_troubleshooting_page_are_those_of_the_code():
    said = []
    for path in PACKAGE.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                said.append(''.join(part.value if isinstance(part, ast.Constant) else '...' for part in node.values))
    terms = re.findall(r'^(".+)\n:', (DOCS / 'troubleshooting.md').read_text(), re.MULTILINE)
    messages = [message for term in terms for message in re.findall(r'"([^"]+)"', term)]
    assert len(messages) > 15
    for message in messages:
        parts = [part.strip() for part in message.split('...') if part.strip()]
        assert any(all(part in text for part in parts) for text in said), message


def test_every_option_has_its_why(generated):
    headings = re.findall(r'^### `(--[\w-]+)`$', (DOCS / 'options.md').read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(generated.option_names('qsmbids'))


@pytest.mark.parametrize('program', ['qsmbids', 'qsmbids-tool', 'qsmbids-slurm', 'qsmbids-simulate',
                                     'qsmbids-evaluate', 'qsmbids-train'])
def test_every_option_of_every_command_is_explained(generated, program):
    def check(parser):
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for step in action.choices.values():
                    check(step)
            elif not isinstance(action, argparse._HelpAction):
                assert action.help, f'{parser.prog} {action.option_strings or action.dest} has no help'
                assert all(name in usage for name in action.option_strings)
    usage = generated.usage(program)
    check(generated.parser_of(program))


def test_every_command_of_the_package_has_its_page(generated):
    scripts = re.findall(r'^    ([\w-]+) = qsmbids\.', (ROOT / 'setup.cfg').read_text(), re.MULTILINE)
    assert sorted(scripts) == sorted(generated.PROGRAMS)
    for name in scripts:
        assert f'{{generated}} usage {name}' in (DOCS / 'usage' / f'{name}.md').read_text()


def test_every_method_has_its_section(generated):
    text = '\n'.join(path.read_text() for path in (DOCS / 'methods').glob('*.md'))
    for step, table in generated.STEPS.items():
        for name in table:
            assert f'({step}-{name})=' in text and f'{{generated}} method {step} {name}\n' in text, f'{step} {name}'


def test_every_file_of_weights_has_a_card_that_is_shown(generated):
    assert '{generated} cards' in (DOCS / 'methods' / 'networks.md').read_text()
    for weights in (PACKAGE / 'data' / 'weights').glob('*.safetensors'):
        assert f'(weights-{weights.stem})=' in generated.cards()


def test_every_file_of_an_acquisition_is_listed(generated):
    assert generated.outputs('single').count('_fieldmap.nii.gz') == 2
    assert 'R2primemap' in generated.outputs() and 'R2starmap' not in generated.outputs('single')


def test_every_picture_has_its_command_and_every_command_its_script(commands):
    there = {f'{folder}/{path.name}' for folder in ('images', 'output') for path in (DOCS / folder).iterdir()}
    assert there == set(commands)
    for command in commands.values():
        assert (ROOT / command.split()[1]).is_file(), command


def test_every_picture_is_shown(commands):
    text = '\n'.join(path.read_text() for path in TEXTS)
    assert not [name for name in commands if name.split('/', 1)[1] not in text]


def test_pages_are_within_reach_of_the_first_one():
    listed = re.findall(r'^[\w/-]+$', '\n'.join(block for path in PAGES for block in re.findall(
        r'\{toctree\}(.*?)```', path.read_text(), re.DOTALL)), re.MULTILINE)
    names = {Path(name).name for name in listed} | {'index'}
    assert not [path for path in PAGES if path.stem not in names]
