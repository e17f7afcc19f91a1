"""Regions of a segmentation that is given, of the network, and the table of their values."""

import nibabel
import numpy as np
import pytest

from qsmbids.core.labels import BY_NAME, CSF, FINEST, label_rows
from qsmbids.core.statistics import COLUMNS
from qsmbids.files import read_tsv, write_tsv
from qsmbids.interfaces.subcortical import (LEADING, GivenRegions, NetworkRegions, RegionStatistics, describe_table,
                                            load_shares, save_shares)

SHAPE = (40, 44, 36)
AFFINE = np.diag([2., 2., 2., 1.])
LEFT, RIGHT = BY_NAME['Caudate_L'].index, BY_NAME['Caudate_R'].index


def ball(centre, radius, shape=SHAPE):
    return sum((g - c) ** 2 for g, c in zip(np.ogrid[tuple(map(slice, shape))], centre)) < radius ** 2


@pytest.fixture
def volumes(tmp_path, monkeypatch):
    """Paths of a brain with both caudates and ventricles, and a function that writes another volume."""
    monkeypatch.chdir(tmp_path)
    labels = np.zeros(SHAPE, np.uint8)
    labels[ball((13, 22, 18), 5)], labels[ball((27, 22, 18), 5)], labels[ball((20, 10, 18), 6)] = LEFT, RIGHT, CSF
    rng = np.random.default_rng(0)
    brain = ball((20, 22, 18), 16)
    magnitude = np.where(brain, 100 + 40 * (labels > 0), 0) + np.abs(rng.standard_normal(SHAPE))
    chi = (.02 * rng.standard_normal(SHAPE) + .05 * (labels == LEFT) + .08 * (labels == RIGHT)) * brain

    def write(name, volume, affine=AFFINE):
        path = str(tmp_path / f'{name}.nii.gz')
        nibabel.save(nibabel.Nifti1Image(volume.astype(np.uint8 if volume.dtype == bool else volume.dtype), affine),
                     path)
        return path
    paths = {name: write(name, volume) for name, volume in (
        ('labels', labels), ('brain', brain), ('magnitude', magnitude.astype(np.float32)),
        ('chi', chi.astype(np.float32)))}
    write_tsv(tmp_path / 'labels.tsv', label_rows(), ['index', 'name'])
    return paths | {'table': str(tmp_path / 'labels.tsv')}, labels, write


def given(paths, **changes):
    inputs = dict(name='x', in_file=paths['labels'], in_table=paths['table'], magnitude=paths['magnitude'],
                  mask=paths['brain']) | changes
    return GivenRegions(**inputs).run().outputs


def test_what_lies_on_the_grid_stays_as_it_is(volumes):
    paths, labels, _ = volumes
    found = given(paths)
    assert np.array_equal(np.asarray(nibabel.load(found.labels).dataobj), labels)
    assert found.metadata['Interpolation'] == 'none' and not found.warnings
    assert {row['name'] for row in read_tsv(found.table)} == {label.name for label in FINEST}


def test_freesurfer_ids_without_a_table(volumes):
    paths, labels, write = volumes
    other = write('aseg', np.where(labels == LEFT, 11, np.where(labels == RIGHT, 50, 0)).astype(np.int16))
    found = GivenRegions(name='fs', in_file=other, magnitude=paths['magnitude'], mask=paths['brain']).run().outputs
    seen = np.asarray(nibabel.load(found.labels).dataobj)
    assert np.array_equal(seen == LEFT, labels == LEFT) and np.array_equal(seen == RIGHT, labels == RIGHT)
    assert BY_NAME['RedNucleus_L'].index not in found.known and BY_NAME['Pallidum_L'].index in found.known


def test_another_grid_by_the_headers_or_by_an_image(volumes):
    paths, labels, write = volumes
    fine = np.kron(labels, np.ones((2, 2, 2), np.uint8))
    affine = np.diag([1., 1., 1., 1.])
    affine[:3, 3] = -.5
    there = write('fine', fine, affine)
    found = given(paths, in_file=there, aligned=False)
    assert 'no T1w image' in found.warnings[0]
    assert np.mean(np.asarray(nibabel.load(found.labels).dataobj) != labels) < .002
    # The other space lies 9 mm away: its image brings the labels back.
    affine[0, 3] += 9
    away, t1w = write('away', fine, affine), nibabel.load(paths['magnitude']).get_fdata()
    image_affine = AFFINE.copy()
    image_affine[0, 3] += 9
    found = given(paths, in_file=away, aligned=False, image=write('t1w', (200 - t1w).astype(np.float32), image_affine))
    seen = np.asarray(nibabel.load(found.labels).dataobj)
    assert not found.warnings and found.metadata['Registration']['Gain'] > 1.2
    assert 2 * np.sum((seen == LEFT) & (labels == LEFT)) / np.sum((seen == LEFT) * 1 + (labels == LEFT)) > .9
    shares = load_shares(found.shares, SHAPE)
    assert abs(shares[LEFT].sum() / (labels == LEFT).sum() - 1) < .05


def test_shares_come_back(tmp_path):
    rng = np.random.default_rng(1)
    shares = {3: np.zeros(SHAPE, np.float32), 7: np.zeros(SHAPE, np.float32)}
    shares[3][4:9, 5:6, 2:30] = rng.random((5, 1, 28))
    found = load_shares(save_shares(tmp_path / 'shares.npz', shares), SHAPE)
    assert list(found) == [3] and np.abs(found[3] - shares[3]).max() < 1 / 500


def test_the_table(volumes):
    paths, labels, write = volumes
    regions = given(paths)
    echoes = write('echoes', np.stack([nibabel.load(paths['magnitude']).get_fdata()] * 2, -1).astype(np.float32))
    identity = {'participant': 'sub-01', 'session': 'n/a', 'run': 1, 'acquisition': 'sub-01_run-1',
                'seg_source': 'given', 'atlas': 'x'}
    found = RegionStatistics(
        labels=regions.labels, shares=regions.shares, known=regions.known, chi=[paths['chi']], chi_names=['tv'],
        references=[{'SusceptibilityReference': 'wholebrain'}], r2star=paths['magnitude'], r2star_name='arlo',
        mask=paths['brain'], qsm=paths['brain'], magnitude=echoes, voxel_size=(2., 2., 2.),
        identity=identity).run().outputs
    rows = read_tsv(found.table)
    assert list(rows[0]) == [*LEADING, *COLUMNS] == list(describe_table())
    kinds = {(row['metric'], row['map'], row['unit']) for row in rows}
    assert kinds == {('chi', 'tv', 'ppm'), ('R2star', 'arlo', '1/s')}
    left = next(row for row in rows if row['roi'] == 'Caudate' and row['hemi'] == 'L')
    assert float(left['mean']) == pytest.approx(.05, abs=.004) and left['acquisition'] == 'sub-01_run-1'
    assert float(left['snr']) > 50 and left['qc'] == 'pass'
    assert 'Putamen L' in found.warnings[0] and 'Caudate' not in found.warnings[0]


def test_a_network_that_finds_nothing_is_a_warning(volumes, monkeypatch):
    paths, labels, _ = volumes
    segmentation = pytest.importorskip('qsmbids.networks.segmentation')

    def nothing(*_, **__):
        raise ValueError('chi is empty')
    monkeypatch.setattr(segmentation, 'segment', nothing)
    monkeypatch.setattr('qsmbids.interfaces.subcortical.shipped', lambda name: paths['chi'])
    found = NetworkRegions(chi=paths['chi'], mask=paths['brain'], voxel_size=(2., 2., 2.), weights='dgm').run().outputs
    assert not np.asarray(nibabel.load(found.labels).dataobj).any() and 'chi is empty' in found.warnings[0]
    assert any('no region was found' in text for text in found.warnings)


def test_probabilities_of_a_network_are_told_apart_by_side(volumes, monkeypatch):
    paths, labels, _ = volumes
    segmentation = pytest.importorskip('qsmbids.networks.segmentation')
    both = ((labels == LEFT) | (labels == RIGHT)).astype(np.float32) * .8

    def found(*_, **__):
        return labels, {'Caudate': both, 'CSF': (labels == CSF).astype(np.float32)}
    monkeypatch.setattr(segmentation, 'segment', found)
    monkeypatch.setattr('qsmbids.interfaces.subcortical.shipped', lambda name: paths['chi'])
    outputs = NetworkRegions(chi=paths['chi'], mask=paths['brain'], voxel_size=(2., 2., 2.),
                             weights='dgm').run().outputs
    shares = load_shares(outputs.shares, SHAPE)
    assert np.array_equal(shares[LEFT] > 0, labels == LEFT) and np.array_equal(shares[RIGHT] > 0, labels == RIGHT)
    assert set(shares) == {LEFT, RIGHT, CSF} and outputs.known == [label.index for label in FINEST]


@pytest.fixture(scope='module')
def person(tmp_path_factory):
    """Map and mask of a simulated head on voxels of 2 mm, a function that makes its table, and the left putamen."""
    pytest.importorskip('torch')
    from qsmbids.core.masks import component
    from qsmbids.simulation.head import digital_head
    from qsmbids.simulation.tissues import LABELS
    folder = tmp_path_factory.mktemp('person')
    affine = np.diag([2., 2., 2., 1.])
    affine[:3, 3] = -82, -118, -66
    head = digital_head((84, 102, 80), affine, seed=3, fine=True)
    brain = component(head.map('brain'))

    def table(name, chi, mask, csf=None):
        paths = {}
        for kind, volume in (('chi', chi.astype(np.float32)), ('mask', mask.astype(np.uint8)),
                             ('echoes', np.stack([mask + np.float32(.01)] * 2, -1)),
                             ('csf', (np.zeros_like(mask) if csf is None else csf).astype(np.uint8))):
            paths[kind] = str(folder / f'{name}_{kind}.nii')
            nibabel.save(nibabel.Nifti1Image(volume, affine), paths[kind])
        options = {'voxel_size': (2., 2., 2.)}
        regions = NetworkRegions(chi=paths['chi'], mask=paths['mask'], weights='dgm', **options).run().outputs
        found = RegionStatistics(
            labels=regions.labels, shares=regions.shares, known=regions.known, chi=[paths['chi']], chi_names=['tv'],
            references=[{'SusceptibilityReference': 'wholebrain'}], mask=paths['mask'], qsm=paths['mask'],
            magnitude=paths['echoes'], csf=paths['csf'], identity={}, **options).run().outputs
        return {row['roi'] + row['hemi']: row for row in read_tsv(found.table) if float(row['erosion_mm']) == 0}
    putamen = np.argwhere(head.labels == LABELS['putamen'])
    return head.chi * brain, brain, table, putamen[putamen[:, 0] < 41].mean(axis=0)


def test_a_participant_with_little_fluid_gets_a_table_without_that_reference(person, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    chi, mask, table, _ = person
    rows = table('whole', chi, mask)
    for name in ('PutamenL', 'CaudateR', 'ThalamusL', 'SubstantiaNigraR', 'DentateL'):
        assert rows[name]['qc'] in ('pass', 'warn') and float(rows[name]['mean_ref-wholebrain']) > -.05, name
        assert rows[name]['mean_ref-csf'] == 'n/a' and 'csf: 0 mL' in rows[name]['ref_reason']


@pytest.mark.parametrize('by_mask', (False, True))
def test_a_cropped_participant_gets_a_table_that_says_what_is_cut_off(person, by_mask, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    chi, mask, table, putamen = person
    above = int(putamen[2]) + 4
    if by_mask:
        mask = mask.copy()
        mask[..., above:] = False
    else:
        chi, mask = chi[..., :above], mask[..., :above]
    rows = table(f'cropped{by_mask}', chi * mask, mask)
    for cut in (rows['PutamenL'], rows['PutamenR']):
        assert 'surface' in cut['qc_reason'] if by_mask else cut['mean'] == 'n/a' and 'cropped' in cut['qc_reason']
    assert min(float(rows[name]['mean']) for name in ('DentateL', 'SubstantiaNigraR')) > .03


def test_a_participant_with_a_bleed_gets_a_table_without_the_nucleus_that_it_fills(person, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    chi, mask, table, putamen = person
    far = np.sqrt(sum((axis - at) ** 2 for axis, at in zip(np.ogrid[tuple(map(slice, chi.shape))], putamen)))
    rows = table('bled', np.where(far < 8, np.float32(.9), chi), mask)
    assert rows['PutamenL']['mean'] == 'n/a' and rows['PutamenL']['qc_reason'] != 'n/a'
    assert float(rows['PutamenR']['mean']) < .2 and rows['CaudateR']['mean'] != 'n/a'
