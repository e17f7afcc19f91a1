"""Registration to templates, where antspyx is installed."""

import nibabel
import numpy as np
import pytest

from qsmbids.core.labels import BY_NAME, label_rows
from qsmbids.files import write_tsv
from qsmbids.interfaces.atlas import AtlasRegions, RegisterTemplate, ToTemplate

SHAPE = (32, 36, 30)
NAMES = ('Caudate_L', 'Caudate_R', 'Thalamus_L', 'Thalamus_R')


def head(shift, scale):
    """Return brain, regions and a T1w-like image of a head that is moved and grown."""
    grid = [(g - n / 2 - s) / scale for g, n, s in zip(np.ogrid[tuple(map(slice, SHAPE))], SHAPE, shift)]

    def ball(centre, axes):
        return sum(((g - c) / a) ** 2 for g, c, a in zip(grid, centre, axes)) < 1
    brain = ball((0, 0, 0), (11, 13, 10))
    labels = np.zeros(SHAPE, np.uint8)
    for name, centre, axes in zip(NAMES, ((-4, 4, 2), (4, 4, 2), (-4, -4, 0), (4, -4, 0)), ((2.5, 4, 3),) * 4):
        labels[ball(centre, axes)] = BY_NAME[name].index
    noise = np.random.default_rng(0).standard_normal(SHAPE)
    values = np.where(labels == 0, 100, np.where(labels < 5, 160, 40)) + 3 * noise
    return brain, labels, np.where(brain, values, 0).astype(np.float32)


@pytest.fixture
def written(tmp_path, monkeypatch):
    pytest.importorskip('ants')
    monkeypatch.chdir(tmp_path)
    affine = np.diag([4., 4., 4., 1.])
    paths, volumes = {}, {}
    for who, shift, scale in (('template', (0, 0, 0), 1), ('data', (1.5, -1, .5), 1.08)):
        for kind, volume in zip(('brain', 'labels', 'image'), head(shift, scale)):
            paths[who, kind] = str(tmp_path / f'{who}_{kind}.nii.gz')
            volumes[who, kind] = volume
            kind_of = np.uint8 if volume.dtype == bool else volume.dtype
            nibabel.save(nibabel.Nifti1Image(volume.astype(kind_of), affine), paths[who, kind])
    return paths, volumes


def test_there_and_back(written, tmp_path):
    paths, volumes = written
    found = RegisterTemplate(template=paths['template', 'image'], contrast='T1w', name='x',
                             magnitude=paths['data', 'image'], mask=paths['data', 'brain'],
                             image=paths['data', 'image'], quick=True).run().outputs
    assert found.metadata['Registration']['Fixed'] == 'T1w' and not found.warnings
    write_tsv(tmp_path / 'x.tsv', label_rows(), ['index', 'name'])
    regions = AtlasRegions(name='x', labels=paths['template', 'labels'], in_table=str(tmp_path / 'x.tsv'),
                           transforms=found.to_native, magnitude=paths['data', 'image'],
                           registration=found.metadata).run().outputs
    labels, truth = np.asarray(nibabel.load(regions.labels).dataobj), volumes['data', 'labels']
    before = volumes['template', 'labels']
    for name in NAMES:
        index = BY_NAME[name].index

        def dice(a):
            return 2 * np.sum((a == index) & (truth == index)) / (np.sum(a == index) + np.sum(truth == index))
        assert dice(labels) > max(.8, dice(before))
    moved = ToTemplate(maps=[paths['data', 'image']], template=paths['template', 'image'],
                       transforms=found.to_template).run().outputs.maps
    inside = volumes['template', 'brain']

    def likeness(volume):
        return np.corrcoef(volume[inside], volumes['template', 'image'][inside])[0, 1]
    assert likeness(nibabel.load(moved[0]).get_fdata()) > max(.65, likeness(volumes['data', 'image']))
