"""The graph over many kinds of acquisitions and settings; nothing is run."""

from dataclasses import replace

import pytest
from nipype.interfaces.base import Undefined

from qsmbids.ages import Age
from qsmbids.bids import Acquisition
from qsmbids.config import Config
from qsmbids.core.methods import (BACKGROUND, BIPOLAR, ECHO_FITS, INVERSION, MASKING, OFFSETS, PRESETS,
                                  REFERENCES, RELAXOMETRY, UNWRAPPING, WEIGHTINGS)
from qsmbids.reports.methods import to_bibtex, to_html, to_markdown
from qsmbids.segmentations import Source
from qsmbids.templates import Template
from qsmbids.workflows.base import METHOD_SETTINGS, find_regions, init_qsmbids_wf
from qsmbids.workflows.derivatives import DESCRIPTIONS, list_outputs
from qsmbids.workflows.qsm import companion_maps

CHOICES = {'preset': PRESETS, 'unwrapping': UNWRAPPING, 'phase_offset': OFFSETS, 'echo_fit': ECHO_FITS,
           'background': BACKGROUND, 'reference': REFERENCES, 'relaxometry': RELAXOMETRY, 'level': ('minimal', 'full'),
           'mask_method': MASKING, 'phase_sign': ('auto', '+', '-'), 'bipolar': BIPOLAR, 'mending': (True, False),
           'erosion': (True, False), 'swi': (True, False), 'microbleeds': (True, False), 'two_pass': (False, True),
           'microbleed_grading': ('network', 'rules'),
           'subcortical': ('auto', 'none'), 'weighting': WEIGHTINGS, 'chi_separation': (True, False)}
VARIANTS = [{name: choice} for name, choices in CHOICES.items() for choice in choices] + [
    {'inversion': tuple(INVERSION)}, {'inversion': ('rts',), 'inversion_lambda': None}]


@pytest.fixture
def acquisition(tmp_path):
    paths = {}
    for part in ('mag', 'phase', 'real', 'imag'):
        paths[part] = tuple(str(tmp_path / f'{part}{echo}.nii.gz') for echo in range(3))
        for path in paths[part]:
            open(path, 'w').close()
    return Acquisition({'subject': '01', 'session': 'a'}, 'MEGRE', {p: paths[p] for p in ('mag', 'phase')},
                       echo_times=(0.004, 0.012, 0.02), b0_tesla=3.0, center_frequency_hz=127.7e6,
                       shape=(160, 160, 160), phase_units='rad', metadata={'Manufacturer': 'Siemens'},
                       sources=('bids:raw:x',)), paths


@pytest.fixture
def build(tmp_path):
    def build(acquisitions, **settings):
        config = Config(bids_dir=tmp_path, output_dir=tmp_path / 'out', work_dir=tmp_path / 'work', **settings)
        return init_qsmbids_wf(config, acquisitions, threads=2), config
    return build


def kinds(acquisition, paths):
    yield acquisition
    yield replace(acquisition, files={p: paths[p] for p in ('real', 'imag')})
    yield replace(acquisition, files={'mag': paths['mag']})
    yield replace(acquisition, files={p: paths[p][:1] for p in ('mag', 'phase')}, echo_times=(0.02,),
                  suffix='T2starw')
    yield replace(acquisition, echo_times=(0.004, 0.012, 0.03))


def inputs_without_source(workflow):
    """Mandatory inputs that are neither set nor connected."""
    from nipype.interfaces.base import isdefined
    missing = []
    graph = workflow._create_flat_graph()
    for node in graph.nodes():
        connected = {dest for _, _, data in graph.in_edges(node, data=True) for _, dest in data['connect']}
        spec = node.interface.inputs
        missing += [f'{node.name}.{name}' for name, trait in spec.traits(mandatory=True).items()
                    if not isdefined(getattr(spec, name)) and name not in connected]
    return missing


@pytest.mark.parametrize('settings', VARIANTS, ids=str)
def test_every_setting_makes_a_complete_graph(acquisition, build, settings):
    for kind in kinds(*acquisition):
        workflow, config = build([kind], **settings)
        assert inputs_without_source(workflow) == []
        sinks = {node.interface.inputs.path for node in workflow._get_all_nodes() if node.name.startswith('ds_')}
        chosen = {name: getattr(config, name) for name in METHOD_SETTINGS}
        source, _ = find_regions(config, kind)
        expected = {output.path(kind) for output in list_outputs(kind, chosen, source=source)}
        assert sinks == expected
        maps = [path for path in expected if path.endswith('Chimap.nii.gz')
                and not any(f'desc-{name}_' in path for name in companion_maps(INVERSION))]
        separated = 3 if config.chi_separation and len(kind.echo_times) > 1 else 1
        assert len(maps) == (separated * len(config.inversion) if kind.has_phase else 0)


def test_every_desc_is_described(acquisition, build):
    for kind in kinds(*acquisition):
        for relaxometry in RELAXOMETRY:
            config = Config('x', 'y', inversion=tuple(INVERSION), relaxometry=relaxometry)
            settings = {name: getattr(config, name) for name in METHOD_SETTINGS}
            assert {output.desc for output in list_outputs(kind, settings)} <= {None, *DESCRIPTIONS}


def test_uneven_echoes_are_not_called_arlo(acquisition):
    *_, uneven = kinds(*acquisition)
    settings = {name: getattr(Config('x', 'y'), name) for name in METHOD_SETTINGS}
    descs = {output.desc for output in list_outputs(uneven, settings)}
    assert 'loglinear' in descs and 'arlo' not in descs


def test_memory_and_threads_are_stated(acquisition, build):
    workflow, _ = build([acquisition[0]])
    nodes = {node.name: node for node in workflow._get_all_nodes()}
    assert nodes['invert_tv'].n_procs == 2 and 0.5 < nodes['invert_tv'].mem_gb < 3
    small = replace(acquisition[0], shape=(32, 32, 32))
    assert next(n for n in build([small])[0]._get_all_nodes() if n.name == 'invert_tv').mem_gb < 0.4


@pytest.mark.parametrize('settings, drawn', [
    ({'inversion': ('tv', 'pocsnet2')}, True), ({'inversion': ('tv',)}, False),
    ({'inversion': ('pocsnet2',), 'two_pass': True}, False)], ids=str)
def test_what_networks_make_beside_their_map_is_drawn(acquisition, build, settings, drawn):
    graph = build([acquisition[0]], **settings)[0]._create_flat_graph()
    draw = next(node for node in graph.nodes() if node.name == 'draw')
    connected = {target for _, _, data in graph.in_edges(draw, data=True) for _, target in data['connect']}
    assert ('companions' in connected) == drawn
    if drawn:
        assert draw.inputs.companion_names == companion_maps(settings['inversion'])


def test_microbleeds_are_looked_for_in_a_map_of_another_software(acquisition, build, tmp_path):
    folder = tmp_path / 'other' / 'sub-01' / 'ses-a' / 'anat'
    folder.mkdir(parents=True)
    path = folder / f'{acquisition[0].name}_desc-x_Chimap.nii'
    path.touch()
    for kind in kinds(*acquisition):
        workflow, _ = build([kind], derivatives={'other': tmp_path / 'other'})
        assert inputs_without_source(workflow) == []
        nodes = {node.name: node.interface.inputs for node in workflow._get_all_nodes()}
        assert nodes['find'].other_chi == nodes['draw'].lesion_chi == str(path) and nodes['find'].weights == 'cmb'
        assert any(str(path) in note for note in nodes['assess'].metadata_notes)


@pytest.mark.parametrize('subcortical', ['auto', 'none'])
def test_the_field_tells_the_sign_of_lesions_without_signal(acquisition, build, subcortical):
    for kind in kinds(*acquisition):
        graph = build([kind], subcortical=subcortical)[0]._create_flat_graph()
        given = next(node for node in graph.nodes() if 'microbleed_wf' in node.fullname and node.name == 'inputnode')
        ports = [port for _, _, data in graph.in_edges(given, data=True) for _, port in data['connect']]
        assert ('field' in ports) == kind.has_phase


def test_threads_are_no_part_of_a_result(acquisition, build, tmp_path):
    hashes = []
    for threads in (1, 2):
        config = Config(bids_dir=tmp_path, output_dir=tmp_path / 'out', work_dir=tmp_path / 'work')
        workflow = init_qsmbids_wf(config, [acquisition[0]], threads)
        node = next(n for n in workflow._get_all_nodes() if n.name == 'prepare')
        hashes.append(node.inputs.get_hashval()[1])
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize('settings', VARIANTS, ids=str)
def test_methods_text_cites_what_it_used(acquisition, build, settings):
    text = build([acquisition[0]], **settings)[0].methods_text()
    markdown = to_markdown(text)
    assert '@' not in markdown.split('## References')[0]
    numbered = [line for line in markdown.split('## References')[1].splitlines() if line.strip()]
    assert to_bibtex(text).count('\n@') + 1 == len(numbered) >= 5
    assert to_html(text).startswith('<p>')


def test_a_preset_and_what_departs_from_it_are_told(acquisition, build, tmp_path):
    text = build([acquisition[0]], preset='consensus', **PRESETS['consensus'])[0].methods_text()
    assert 'those of the consensus preset.' in text
    settings = PRESETS['consensus'] | {'background': 'pdf'}
    text = build([acquisition[0]], preset='consensus', **settings)[0].methods_text()
    assert 'those of the consensus preset but for background (pdf).' in text
    assert 'preset' not in build([acquisition[0]])[0].methods_text()


@pytest.mark.parametrize('years, limit', [(None, 5), (.5, 3), (4, 5)])
def test_what_is_fluid_depends_on_the_age(acquisition, build, years, limit):
    kind = replace(acquisition[0], age=years and Age(years, 'so'))
    workflow, _ = build([kind], preset='pediatric', **PRESETS['pediatric'])
    nodes = {node.name: node for node in workflow._get_all_nodes()}
    assert nodes['find_csf'].inputs.age == (years or Undefined)
    assert nodes['find_brain'].inputs.method == 'network' and 'widen' in nodes
    assert f'fluid is where it is below {limit} 1/s' in workflow.methods_text()


def test_crash_files_go_to_the_acquisition(acquisition, build, tmp_path):
    other = replace(acquisition[0], entities={'subject': '02'})
    workflow, _ = build([acquisition[0], other])
    folders = {node.config['execution']['crashdump_dir'] for node in workflow._get_all_nodes()}
    assert folders == {str(tmp_path / 'out' / 'logs' / 'sub-01' / 'sub-01_ses-a'),
                       str(tmp_path / 'out' / 'logs' / 'sub-02' / 'sub-02')}


def a_file(folder, name='volume.nii.gz'):
    path = folder / name
    path.touch()
    return str(path)


@pytest.mark.parametrize('rung', ['given', 'network', 'atlas'])
def test_every_rung_makes_a_complete_graph_with_its_table(acquisition, build, tmp_path, monkeypatch, rung):
    path = a_file(tmp_path)
    template = Template('x', path, 'T1w', path)
    source = Source(rung, 'x', path, image=path, template=template if rung == 'atlas' else None)
    monkeypatch.setattr('qsmbids.workflows.base.choose_source', lambda *_, **__: (source, ('given: none',)))
    for kind in kinds(*acquisition):
        if rung == 'network' and not kind.has_phase:
            continue
        workflow, config = build([kind], chi_separation=True)
        assert inputs_without_source(workflow) == []
        outputs = list_outputs(kind, {name: getattr(config, name) for name in METHOD_SETTINGS}, source=source)
        sinks = {node.interface.inputs.path for node in workflow._get_all_nodes() if node.name.startswith('ds_')}
        assert sinks == {output.path(kind) for output in outputs}
        assert any(path.endswith(f'_seg-subcortical_desc-{rung}_stats.tsv') for path in sinks)
        assert {output.desc for output in outputs} <= {None, *DESCRIPTIONS}


def test_maps_in_the_spaces_of_templates(acquisition, build, tmp_path, monkeypatch):
    monkeypatch.setattr('qsmbids.workflows.base.find_space',
                        lambda name: Template(name, a_file(tmp_path), 'T1w'))
    for kind in kinds(*acquisition):
        workflow, config = build([kind], output_spaces=('native', 'MNI', 'OASIS'), inversion=('tv', 'rts'))
        assert inputs_without_source(workflow) == []
        sinks = {node.interface.inputs.path for node in workflow._get_all_nodes() if node.name.startswith('ds_')}
        there = sorted(path.split('_space-')[1] for path in sinks if '_space-' in path)
        several = len(kind.echo_times) > 1
        maps = ['tv_Chimap', 'rts_Chimap'] * kind.has_phase + [path.split('desc-')[1].removesuffix('.nii.gz') for path
                                                               in sinks if 'R2star' in path and '_space' not in path]
        assert there == sorted(f'{space}_res-1_desc-{name}.nii.gz' for space in ('MNI', 'OASIS') for name in maps)
        assert several == any('R2star' in path for path in there)
