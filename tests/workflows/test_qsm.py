"""The workflow from total field to susceptibility, run on a small volume."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest

from qsmbids.core.background.pdf import remove_background_pdf
from qsmbids.core.dipole import forward_field
from qsmbids.core.inversion.solve import solve
from qsmbids.core.methods import INVERSION
from qsmbids.workflows.qsm import init_qsm_wf
from qsmbids.workflows.twopass import init_two_pass_wf

SHAPE, GRID = (24, 22, 20), {'voxel_size': (1.0, 1.0, 1.0), 'b0_dir': (0.0, 0.0, 1.0)}


@pytest.fixture
def volumes():
    rng = np.random.default_rng(0)
    mask = np.zeros(SHAPE, bool)
    mask[2:-2, 2:-2, 2:-2] = True
    fluid = mask & (np.arange(SHAPE[2]) < 7)
    chi = 0.1 * rng.standard_normal(SHAPE).astype(np.float32) * mask
    return {'field': forward_field(chi, (1, 1, 1)), 'mask': mask, 'magnitude': rng.random(SHAPE, np.float32),
            'csf_mask': fluid}


@pytest.fixture
def run(tmp_path, volumes):
    def run(workflow, names):
        workflow.base_dir = tmp_path
        for name, volume in volumes.items():
            path = tmp_path / f'{name}.nii'
            nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), np.eye(4)), path)
            if name in names:
                setattr(workflow.get_node('inputnode').inputs, name, str(path))
        graph = workflow.run()
        found = {node.name: node.result.outputs for node in graph.nodes()}
        return {name: nibabel.load(path).get_fdata(dtype=np.float32) for name, path in (
            ('local', found['remove_background'].field), ('known', found['remove_background'].mask),
            ('medi0', found['invert_medi0'].chi), ('tkd', found['invert_tkd'].chi))}
    return run


def test_methods_get_what_they_can_use(run, volumes):
    options = dict(background='lbv', inversion=('medi0', 'tkd'), reference='none', voxels=9000, **GRID)
    found = run(init_qsm_wf(name='full', **options), volumes)
    local, known = found['local'], found['known'] > 0
    for name in ('medi0', 'tkd'):
        with_all, with_magnitude, plain = (
            solve(name, local, known, **GRID, **given).chi for given in (
                {'magnitude': volumes['magnitude'], 'csf': volumes['csf_mask']}, {'magnitude': volumes['magnitude']},
                {}))
        assert np.array_equal(found[name], with_all)
        assert np.array_equal(with_all, plain) == np.array_equal(with_magnitude, plain) == (name == 'tkd')
    assert not np.array_equal(solve('medi0', local, known, **GRID, magnitude=volumes['magnitude']).chi, found['medi0'])


def test_the_result_stays_within_the_brain_and_background_removal_weighs(run, volumes):
    volumes['brain_mask'] = volumes['mask'] & (np.arange(SHAPE[2]) < 12)
    volumes['background_weight'] = np.random.default_rng(1).random(SHAPE, np.float32)
    options = dict(background='pdf', inversion=('medi0', 'tkd'), reference='none', voxels=9000, **GRID)
    found = run(init_qsm_wf(name='within', **options), volumes)
    local, _ = remove_background_pdf(volumes['field'], volumes['mask'], weight=volumes['background_weight'], **GRID)
    assert np.array_equal(found['known'] > 0, volumes['brain_mask'])
    assert np.array_equal(found['local'], local * volumes['brain_mask'])
    assert not found['tkd'][~volumes['brain_mask']].any()


def test_both_passes_get_them():
    workflow = init_two_pass_wf(inversion=('medi0', 'tkd'), voxels=9000, csf=True, **GRID)
    for name in ('first_wf', 'second_wf'):
        inner = workflow.get_node(name)
        wired = workflow._graph.get_edge_data(workflow.get_node('inputnode'), inner)['connect']
        assert {'inputnode.magnitude', 'inputnode.csf_mask', 'inputnode.brain_mask'} <= {target for _, target in wired}
        for method in ('medi0', 'tkd'):
            edge = inner._graph.get_edge_data(inner.get_node('inputnode'), inner.get_node(f'invert_{method}'))
            given = {target for _, target in edge['connect']}
            assert ({'magnitude', 'csf'} <= given) == (method == 'medi0')


def test_a_method_that_takes_the_total_field_gets_it(run, volumes, monkeypatch):
    monkeypatch.setitem(INVERSION, 'tkd', replace(INVERSION['tkd'], takes_total=True))
    options = dict(background='vsharp', inversion=('medi0', 'tkd'), reference='none', voxels=9000, **GRID)
    found = run(init_qsm_wf(name='total', **options), ('field', 'mask'))
    assert np.array_equal(found['tkd'], solve('tkd', volumes['field'], volumes['mask'], **GRID).chi)
    assert np.array_equal(found['medi0'], solve('medi0', found['local'], found['known'] > 0, **GRID).chi)
