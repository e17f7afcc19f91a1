"""The node that judges an acquisition: its numbers and warnings, and the table of the cohort that they end in."""

import json
import shutil

import nibabel
import numpy as np
import pytest

from qsmbids.cli.group import write_group_quality
from qsmbids.core.dipole import forward_field
from qsmbids.files import read_tsv
from qsmbids.interfaces.quality import AssessQuality

FACTS = {'echo_times': [0.01], 'voxel_size': [1, 1, 1], 'shape': [30, 32, 28], 'has_phase': True, 'own_mask': '',
         'center_frequency_hz': 123e6, 'metadata': {}, 'settings': {
             'preset': 'none', 'unwrapping': 'romeo', 'echo_fit': 'nonlinear', 'residual_threshold': 0.3,
             'background': 'pdf', 'inversion': ['tv', 'tkd']}}


@pytest.fixture
def assess(tmp_path, monkeypatch):
    """Run the node on a map of noise, a weak copy of it, and the field of the first; return what it wrote."""
    monkeypatch.chdir(tmp_path)

    def run(b0_dir, **changes):
        mask = np.zeros(FACTS['shape'], np.uint8)
        mask[2:-2, 2:-2, 2:-2] = 1
        chi = mask * np.random.default_rng(0).standard_normal(mask.shape)
        volumes = {'magnitude': np.ones((*mask.shape, 1)), 'brain': mask, 'qsm': mask, 'tv': chi, 'tkd': 0.4 * chi,
                   'local_field': forward_field(chi - mask * chi[mask > 0].mean(), (1, 1, 1))}
        paths = {}
        for name, volume in volumes.items():
            paths[name] = str(tmp_path / f'{name}.nii')
            nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), np.eye(4)), paths[name])
        inputs = {'chi': [paths.pop('tv'), paths.pop('tkd')], 'chi_names': ['tv', 'tkd'], **paths} | changes
        node = AssessQuality(voxel_size=(1.0, 1.0, 1.0), b0_dir=b0_dir, facts=FACTS, **inputs)
        return node.run().outputs
    return run


def test_each_map_is_checked_against_the_field(assess):
    content = json.loads(open(assess((0.0, 0.0, 1.0)).quality).read())
    metrics, warnings = content['metrics'], content['warnings']
    assert metrics['chi_tv_kernel_gain'] == pytest.approx(1, abs=0.1) and metrics['chi_tv_flag'] == 0
    assert metrics['chi_tkd_kernel_gain'] == pytest.approx(2.5, abs=0.25) and metrics['chi_tkd_flag'] == 2
    (warning,) = warnings
    assert warning.startswith('tkd map is not to be trusted') and 'too weak' in warning


def test_a_wrong_header_is_told_once(assess):
    warnings = json.loads(open(assess((0.0, 0.6, 0.8)).quality).read())['warnings']
    assert sum('local field points to' in warning for warning in warnings) == 1


def test_magnitude_alone_has_nothing_to_check(assess):
    from nipype.interfaces.base import Undefined
    found = assess((0.0, 0.0, 1.0), chi=Undefined, chi_names=[], local_field=Undefined, qsm=Undefined)
    assert not any('kernel' in name or 'b0' in name for name in json.loads(open(found.quality).read())['metrics'])


def test_the_numbers_end_in_the_table_of_the_cohort(assess, tmp_path):
    folder = tmp_path / 'out' / 'sub-1' / 'anat'
    folder.mkdir(parents=True)
    shutil.copy(assess((0.0, 0.0, 1.0)).quality, folder / 'sub-1_desc-qsm_qc.json')
    write_group_quality(tmp_path / 'out', [
        {'participant': 'sub-1', 'session': 'n/a', 'acquisition': 'sub-1', 'state': 'complete'}])
    (row,) = read_tsv(tmp_path / 'out' / 'group_qc.tsv')
    described = json.loads((tmp_path / 'out' / 'group_qc.json').read_text())
    assert float(row['chi_tkd_kernel_gain']) > 2 and row['warnings'] == '1'
    assert 'too weak' in described['chi_tkd_kernel_gain']['Description']
    assert 'tkd' in described['chi_tkd_flag']['Description'] and set(described) == set(row)


def test_maps_are_compared_with_the_first(assess):
    content = json.loads(open(assess((0.0, 0.0, 1.0)).quality).read())
    assert content['metrics']['chi_tkd_agreement_slope'] == pytest.approx(.4, rel=1e-3)
    assert content['metrics']['chi_tkd_difference_rms_ppm'] > .5 and 'chi_tv_agreement_slope' not in content['metrics']
    assert {row['map'] for row in content['agreement']} == {'tkd'}
    assert content['agreement'][0]['low_ppm'] is None and content['agreement'][0]['difference_ppm'] > 0


def test_a_single_map_is_compared_with_none(assess, tmp_path):
    found = assess((0.0, 0.0, 1.0), chi=[str(tmp_path / 'tv.nii')], chi_names=['tv'])
    assert 'agreement' not in json.loads(open(found.quality).read())
