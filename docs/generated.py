"""What the pages of the site take from the code, so that no name, default or description is typed twice.

In a page, ``{generated} usage qsmbids-tool`` stands for what ``usage('qsmbids-tool')`` returns: Markdown. Nothing here
needs Sphinx but `setup`, so that tests can look at the text without it.
"""

import argparse
import re
from importlib import import_module
from inspect import getdoc, signature
from pathlib import Path

from qsmbids.core import labels, lesiontable, methods, regionqc, statistics
from qsmbids.reports.methods import bibliography

DOCS = Path(__file__).parent
PROGRAMS = {'qsmbids': 'parser', 'qsmbids-tool': 'tool', 'qsmbids-slurm': 'slurm', 'qsmbids-simulate': 'simulate',
            'qsmbids-evaluate': 'evaluate', 'qsmbids-train': 'train'}
STEPS = {'unwrapping': methods.UNWRAPPING, 'offset': methods.OFFSETS, 'echo-fit': methods.ECHO_FITS,
         'background': methods.BACKGROUND, 'inversion': methods.INVERSION, 'relaxometry': methods.RELAXOMETRY,
         'swi': methods.SWI, 'separation': methods.SEPARATION}
# By which rule a parameter is chosen, after the `penalty` of core.inversion.strength.
RULES = {'tv': 'strength of total variation', 'identity': 'strength of Tikhonov',
         'gradient': 'strength of Tikhonov on the gradient', 'descent': 'number of steps of gradient descent',
         'lsqr': 'number of iterations of LSQR'}
# What a user of arrays calls.
API = {
    'The whole chain': ['core.reconstruct'],
    'Input': ['core.echoes', 'core.phase', 'core.coils'],
    'Field': ['core.unwrap', 'core.fieldmap', 'core.bipolar', 'core.mending', 'core.certainty'],
    'Masks': ['core.masks'],
    'Dipoles': ['core.dipole'],
    'Background': ['core.background.pdf', 'core.background.sharp', 'core.background.resharp', 'core.background.lbv',
                   'networks.background'],
    'Inversion': ['core.inversion.solve', 'core.inversion.strength', 'core.inversion.variational',
                  'core.inversion.nonlinear', 'core.inversion.medi', 'core.inversion.star', 'core.inversion.hdqsm',
                  'core.inversion.tgv', 'core.inversion.lsqr', 'core.inversion.ilsqr', 'core.inversion.ndi',
                  'core.inversion.direct', 'networks.inversion', 'networks.direct'],
    'Maps beside chi': ['core.relaxometry', 'core.separation', 'core.swi'],
    'Regions': ['networks.segmentation', 'core.labels', 'core.regions', 'core.statistics', 'core.regionqc',
                'core.longitudinal', 'core.registration'],
    'Microbleeds': ['core.microbleeds', 'core.lesiongrade', 'core.lesiontable'],
    'Checks': ['core.consistency', 'core.agreement', 'core.quality', 'core.metrics'],
    'Simulation': ['simulation.head', 'simulation.signal', 'simulation.lesions', 'simulation.bids'],
    'Training': ['training.recipe', 'training.loop'],
    'The table of methods': ['core.methods'],
}


def parser_of(program):
    """Return the argument parser of a command."""
    return import_module(f'qsmbids.cli.{PROGRAMS[program]}').build_parser()


def synopsis(program):
    """Return what a command does and what a call must have."""
    parser = parser_of(program)
    return '\n'.join([escape(parser.description), '', *_synopsis(parser)])


def usage(program):
    """Return a section of the options of each group, and of each step of a command that has steps."""
    parser = parser_of(program)
    lines = _groups(parser, parser.prog)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, step in action.choices.items():
                lines += ['', f'## {name}', '', escape(step.description), '']
                lines += _synopsis(step) + _groups(step, step.prog, '###')
    if parser.epilog:
        lines += ['', '## Notes', '', *_epilog(parser.epilog)]
    return '\n'.join(lines)


def _synopsis(parser):
    """Return what a call must have; the options that need not be there are below."""
    formatter = parser._get_formatter()
    named, placed = [], []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) or not (action.required or not action.option_strings):
            continue
        values = formatter._format_args(action, formatter._metavar_formatter(action, action.dest.upper())(1)[0])
        (named if action.option_strings else placed).append(' '.join([*action.option_strings[-1:], values]))
    steps = ['STEP'] if any(isinstance(action, argparse._SubParsersAction) for action in parser._actions) else []
    return ['```text', ' '.join([parser.prog, *steps, *placed, *named, '[options]']), '```', '']


def _groups(parser, program, level='##'):
    lines = [':::{program} ' + program, ':::', '']
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS
                   and not isinstance(action, (argparse._HelpAction, argparse._SubParsersAction))]
        if actions:
            lines += ['', f'{level} {_heading(group.title)}', '']
            for action in actions:
                lines += _option(parser, action)
    return lines


def _heading(title):
    return {'positional arguments': 'Arguments', 'options': 'General'}.get(title, title[0].upper() + title[1:])


def _option(parser, action):
    """Return an option with its values and its help, as Sphinx's own directive, which gives it an anchor."""
    formatter = parser._get_formatter()
    if action.option_strings:
        values = '' if action.nargs == 0 else ' ' + formatter._format_args(action, action.dest.upper())
        names = ', '.join(f'{name}{values}' for name in action.option_strings)
    else:
        names = formatter._metavar_formatter(action, action.dest)(1)[0]
    help_text = formatter._expand_help(action)
    return [f'::::{{option}} {names}', escape(help_text[0].upper() + help_text[1:]) + '.', '::::', '']


def _epilog(text):
    """Return paragraphs as they are and what is indented as code."""
    for paragraph in text.strip().split('\n\n'):
        if paragraph.startswith(' '):
            yield from ('```text', paragraph.strip(), '```', '')
        else:
            yield from (escape(paragraph), '')


def option_names(program):
    """Return the first long name of each option of a command."""
    return [max(action.option_strings, key=lambda name: name.startswith('--') * 10 - action.option_strings.index(name))
            for action in parser_of(program)._actions
            if action.option_strings and not isinstance(action, argparse._HelpAction)]


def option(name):
    """Return what the command line says of an option of ``qsmbids``."""
    parser = parser_of('qsmbids')
    action, = (action for action in parser._actions if name in action.option_strings)
    names = ', '.join(f'`{text}`' for text in action.option_strings if not text.startswith('--no-'))
    choices = f' One of {", ".join(f"`{choice}`" for choice in action.choices)}.' if action.choices else ''
    return f'*{names}: {escape(parser._get_formatter()._expand_help(action))}.*{choices}'


def method(step, name):
    """Return the facts of a method in a table: option, function, parameters with their defaults, references."""
    entry = STEPS[step][name]
    rows = [('Option', f'`{_flag(step)} {name}`')] if _flag(step) else []
    if entry.location:
        module, function = entry.location.split(':')
        rows.append(('Function', f'{{py:func}}`~qsmbids.{module}.{function}`'))
        parameters = entry.parameters()
        shown = ', '.join(f'`{key}={_value(value)}`' for key, value in parameters.items())
        rows.append(('Parameters', shown or 'none'))
    if entry.automatic:
        parameter, rule = entry.automatic
        rows.append(('Chosen from the field', f'`{parameter.rstrip("_")}`, by the rule for the {RULES[rule]} '
                                              '({ref}`automatic strength <strength>`)'))
    if entry.location and entry.takes('weight'):
        rows.append(('Data weight', 'yes'))
    if entry.weights:
        rows.append(('Trained weights', f'{{ref}}`{entry.weights} <weights-{entry.weights}>`'))
    rows.append(('Covered by the consensus', 'yes' if entry.consensus else 'no'))
    if entry.citations:
        rows.append(('Reference', '; '.join(short_reference(key) for key in entry.citations)))
    return table(('', ''), rows)


def _flag(step):
    return {'unwrapping': '--unwrapping', 'offset': '--phase-offset', 'echo-fit': '--echo-fit',
            'background': '--background', 'inversion': '--inversion', 'relaxometry': '--relaxometry'}.get(step)


def _value(value):
    return 'automatic' if value is None else value


def overview(step):
    """Return a table of all methods of a step with a link to the section of each."""
    return table(('Name', 'Method', 'Consensus'),
                 [(f'`{name}`', f'{{ref}}`{entry.title} <{step}-{name}>`', 'yes' if entry.consensus else 'no')
                  for name, entry in STEPS[step].items()])


def short_reference(key):
    """Return such as ``Liu et al. 2011`` with a link to the list of references."""
    entry = bibliography()[key]
    people = entry['author'].split(' and ')
    first = people[0].split(',')[0]
    many = f'{first} et al.' if len(people) > 2 else ' and '.join(name.split(',')[0] for name in people)
    return f'{{ref}}`{many} {entry["year"]} <ref-{key}>`'


def references():
    """Return the whole bibliography, each entry with an anchor."""
    lines = []
    for key, entry in sorted(bibliography().items(), key=lambda item: (item[1]['author'], item[1]['year'])):
        place = ' '.join(filter(None, (entry.get('journal'), entry.get('volume'))))
        pages = f':{entry["pages"]}' if 'pages' in entry else ''
        link = f' [doi:{entry["doi"]}](https://doi.org/{entry["doi"]})' if 'doi' in entry else (
            f' <{entry["howpublished"]}>' if 'howpublished' in entry else '')
        people = entry['author'].replace(' and ', '; ').removesuffix('; others') + (
            ' et al.' if entry['author'].endswith(' and others') else '')
        lines += [f'(ref-{key})=', f'{escape(people)}. {escape(entry["title"])}. {escape(place)}{pages}, '
                                   f'{entry["year"]}.{link}', '']
    return '\n'.join(lines)


def outputs(kind='multi'):
    """Return the table of files of an acquisition with phase: of several echoes, or of one."""
    from qsmbids.bids import Acquisition
    from qsmbids.config import Config
    from qsmbids.segmentations import Source
    from qsmbids.workflows.derivatives import DESCRIPTIONS, list_outputs
    settings = {**vars(Config('bids', 'out')), 'chi_separation': kind == 'multi', 'inversion': ('tv', 'pocsnet2'),
                'output_spaces': ('native', 'MNI152NLin2009cAsym')}
    acquisition = Acquisition({'subject': '01'}, 'MEGRE', {'phase': ('a',), 'mag': ('b',)},
                              echo_times=(.004, .012, .020) if kind == 'multi' else (.02,), b0_tesla=3.)
    rows = []
    for output in list_outputs(acquisition, settings, r2_map='/R2map.nii.gz', source=Source('network', 'dgm')):
        meaning = DESCRIPTIONS.get(output.desc) or output.metadata.get('Description', '')
        kind_of = SUFFIXES[output.suffix]
        place = 'in the space of the template' if output.space else ''
        rows.append((f'`{output.path(acquisition).split("/", 1)[1]}`',
                     '; '.join(filter(None, (kind_of, escape(meaning), place))),
                     output.metadata.get('Units', '') if 'Units' in output.metadata else ''))
    return table(('File', 'What it is', 'Units'), rows)


SUFFIXES = {
    'mask': 'Mask', 'Chimap': 'Susceptibility', 'fieldmap': 'Field map', 'magnitude': 'Magnitude, combined',
    'residual': 'Misfit of the echoes', 'R2starmap': 'R2\\*', 'T2starmap': 'T2\\*', 'S0map': 'Signal at echo time zero',
    'R2primemap': "R2'", 'swi': 'Susceptibility-weighted image', 'minIP': 'Its minimum over 7 slices',
    'dseg': 'Label map, or the table of its labels', 'stats': 'Table of values in regions', 'probseg': 'Scores',
    'lesions': 'Table of lesions', 'counts': 'Table of counts', 'qc': 'Quality metrics, notes and warnings',
    'compliance': 'Requirements C1 to C13 of the consensus, one by one'}


def columns(which):
    """Return the columns of a table: 'regions', 'lesions' or 'counts'."""
    described = {'regions': statistics.COLUMNS, 'lesions': lesiontable.COLUMNS, 'counts': lesiontable.COUNT_COLUMNS}
    return table(('Column', 'What', 'Units'),
                 [(f'`{name}`', escape(text), 'of the row' if unit == '{}' else unit or '')
                  for name, (text, unit) in described[which].items()])


def structures():
    """Return the table of regions."""
    rows = []
    for label in labels.LABELS:
        volume = label.structure.volume
        rows.append((label.index, f'`{label.name}`', label.abbreviation, ', '.join(map(str, label.freesurfer)) or '-',
                     f'{volume[0]:g} to {volume[1]:g}' if volume else '-'))
    return table(('Index', 'Name', 'Short', "FreeSurfer's ids", 'Adult volume, mL'), rows)


def region_states():
    """Return when a region has no value or a doubtful one, with the limits that the code has."""
    low, high = regionqc.VOLUME_MARGIN
    return table(('State', 'When'), [
        ('missing', f'fewer than {regionqc.LEAST_VOXELS} voxels count, or less than {regionqc.LEAST_COVERAGE:.0%} of '
                    'the region; it reaches the edge of the image; the segmentation does not have it'),
        ('fail', f'its volume is below {low:g} or above {high:g} times the adult range; its largest piece holds less '
                 f'than {regionqc.LARGEST_PIECE:.0%}; the sides differ by more than a factor of '
                 f'{1 / regionqc.SIDE_RATIO:.2g}'),
        ('warn', f'less than {regionqc.GOOD_COVERAGE:.0%} of it has values; a small nucleus in voxels longer than '
                 f'{regionqc.THICK_MM:g} mm'),
        ('pass', 'nothing stands out')])


def cards():
    """Return the cards of all weights that come along, each as a section with an anchor."""
    folder = DOCS.parent / 'qsmbids' / 'data' / 'weights'
    cards = (f'(weights-{path.stem})=\n##{path.read_text()}' for path in sorted(folder.glob('*.md')))
    return '\n'.join(['## Model cards', '', *cards])


def settings_of(preset):
    """Return what a preset sets."""
    return table(('Option', 'Value'), [(f'`--{name.replace("_", "-")}`', _plain(value))
                                       for name, value in methods.PRESETS[preset].items()])


def _plain(value):
    return ' '.join(value) if isinstance(value, tuple) else {True: 'yes', False: 'no'}.get(value, value)


def figures():
    """Return which command makes each picture and each piece of output that the site shows."""
    import sys
    sys.path.insert(0, str(DOCS.parent / 'benchmarks'))
    from figures import COMMANDS
    return table(('File', 'Command'), [(f'`docs/{name}`', f'`{command}`') for name, command in COMMANDS.items()])


def table(head, rows):
    """Return a Markdown table; bars in cells are escaped."""
    lines = [head, ('---',) * len(head), *rows]
    return '\n'.join('| ' + ' | '.join(str(cell).replace('|', '\\|') for cell in row) + ' |' for row in lines)


def escape(text):
    """Return plain text with what Markdown would take for markup escaped, and names of options as code."""
    text = re.sub(r'([*_<>{}\[\]$])', r'\\\1', ' '.join(str(text).split()))
    return re.sub(r'(?<![\w`-])(--[a-z][a-z0-9-]*)', r'`\1`', text)


def write_api_pages():
    """Write a page for each module of `API`; those that say the same already stay, so that nothing is built anew."""
    folder = DOCS / '_generated' / 'api'
    folder.mkdir(parents=True, exist_ok=True)
    for name in (name for names in API.values() for name in names):
        text = f'# {name}\n\n```{{eval-rst}}\n.. automodule:: qsmbids.{name}\n   :members:\n```\n'
        path = folder / f'{name}.md'
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def api():
    """Return the table of modules, each with its first line."""
    rows = []
    for subject, names in API.items():
        for name in names:
            first = getdoc(import_module(f'qsmbids.{name}')).split('\n\n')[0]
            rows.append((subject, f'{{doc}}`{name} </_generated/api/{name}>`', escape(first.rstrip('.'))))
            subject = ''
    return table(('', 'Module', ''), rows)


def draw_formula(writer, node):
    """Write a formula as MathML, which browsers draw themselves: no script, no network."""
    from docutils import nodes
    from docutils.utils.math.latex2mathml import tex2mathml
    block = isinstance(node, nodes.math_block)
    drawn = tex2mathml(node.astext().strip(), as_block=block)
    writer.body.append(f'<div class="math">{drawn}</div>' if block else drawn)
    raise nodes.SkipNode


def keep_units(app, what, name, obj, options, lines):
    """Keep a line such as ``mm.`` from being taken for a number of a list: it is one, in Roman."""
    lines[:] = [re.sub(r'^(\s*)([a-zA-Z]{1,3}\.)(?=\s|$)', r'\1\\\2', line) for line in lines]


def setup(app):
    from sphinx.util.docutils import SphinxDirective

    class Generated(SphinxDirective):
        """``{generated} NAME ARGUMENTS``: the Markdown that the function of that name returns."""

        required_arguments, optional_arguments = 1, 3

        def run(self):
            name, *arguments = self.arguments
            function = globals()[name]
            signature(function).bind(*arguments)
            return self.parse_text_to_nodes(function(*arguments), allow_section_headings=True)

    app.setup_extension('sphinx.ext.autodoc')  # whose event is used below
    app.add_directive('generated', Generated)
    app.add_html_math_renderer('mathml', (draw_formula, None), (draw_formula, None))
    app.connect('builder-inited', lambda app: write_api_pages())
    app.connect('autodoc-process-docstring', keep_units, priority=400)
    return {'parallel_read_safe': True}
