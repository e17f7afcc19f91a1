"""Microbleeds: the census of a scan as mask, label map, score map and tables."""

from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, TraitedSpec, traits

from qsmbids.core.dipole import voxel_size_of
from qsmbids.core.lesiongrade import DEFINITE, LISTED, POSSIBLE
from qsmbids.core.lesiontable import (COLUMNS, COUNT_COLUMNS, PURPOSE, count_lesions, describe_counts,
                                      describe_lesions)
from qsmbids.core.microbleeds import darkness_of, find_microbleeds
from qsmbids.core.phase import repair_nonfinite
from qsmbids.files import FileError, write_tsv
from qsmbids.headers import check_grid, load_image
from qsmbids.interfaces.base import NumericInputSpec, NumericInterface, given
from qsmbids.interfaces.images import load_array, load_mask, save_array
from qsmbids.interfaces.subcortical import translate
from qsmbids.networks.shipped import sha256, shipped
from qsmbids.segmentations import read_table

METHOD = {'DetectionAlgorithm': 'Laplacian of Gaussian at five scales',
          'Thresholds': {'listed': LISTED, 'possible': POSSIBLE, 'definite': DEFINITE}, 'IntendedUse': PURPOSE}
RULES = 'rules for the shape of blobs and what is around'
# Suffix of each file, and its sidecar.
SIDECARS = {
    'mask': METHOD | {'Type': 'Lesion', 'Description': 'Definite and possible microbleeds'},
    'dseg': METHOD | {'Type': 'Lesion', 'Description': 'Regions of the table of lesions, by index'},
    'probseg': METHOD | {'Type': 'Lesion', 'Description': 'Score of the microbleed that a voxel belongs to'},
    'lesions': describe_lesions(), 'counts': describe_counts()}


def grading(weights, chi):
    """Return how lesions are graded, for the sidecar, and the function that does it, None of rules.

    Parameters
    ----------
    weights : str or None
        Of the network; rules without.
    chi : path or None
        Susceptibility: without it rules grade.

    Raises
    ------
    FileError
        If the weights are missing or damaged.
    """
    if not weights or not chi:
        return {'Grading': RULES}, None
    from qsmbids.networks.lesions import lesion_classifier
    return {'Grading': f'network {weights}', 'WeightsSHA256': sha256(shipped(weights))}, lesion_classifier(weights)


def take_census(mask, *, chi=None, r2star=None, weighted=None, regions=None, field=None, classify=None):
    """Return the census of NIfTI files on one grid.

    Parameters
    ----------
    mask : path
        Brain.
    chi, r2star, weighted : path, optional
        Susceptibility; R2* or, in its place, a weighted image.
    field : path, optional
        Total field in ppm, which tells the sign of lesions without signal.
    regions : path, optional
        Label map; its indices are those of the TSV beside it, or else FreeSurfer's.
    classify : callable, optional
        Of :func:`grading`.

    Raises
    ------
    FileError
        If a file cannot be read or lies on another grid.
    """
    volumes = {}
    for name, path in (('chi', chi), ('r2star', r2star or weighted), ('regions', regions),
                       ('field', field)):
        if path:
            check_map(path, mask)
            volumes[name], _ = repair_nonfinite(load_array(path))
    brain, affine = load_mask(mask), load_image(mask).affine
    if weighted and not r2star:
        volumes['r2star'] = darkness_of(volumes['r2star'], brain, voxel_size_of(affine))
    if regions:
        table = Path(f'{str(regions).removesuffix(".gz").removesuffix(".nii")}.tsv')
        volumes['regions'] = translate(np.rint(volumes['regions']).astype(np.int32),
                                       read_table(table if table.is_file() else None))
    return find_microbleeds(volumes.pop('chi', None), brain, affine, **volumes, classify=classify)


def check_map(path, mask):
    """Raise FileError unless a NIfTI file is one volume on the grid of the mask."""
    check_grid(path, mask)
    if load_image(path).ndim != 3:
        raise FileError(f'{path}: must be 3D, has the shape {load_image(path).shape}')


def write_census(census, name, like):
    """Write the files of a census.

    Parameters
    ----------
    census : qsmbids.core.microbleeds.Census
    name : callable
        ``name(suffix, extension)``, the path of a file.
    like : path
        Image of the same grid.

    Returns
    -------
    dict
        Paths by ``mask``, ``dseg``, ``probseg``, ``labels`` (TSV of the label map), ``lesions`` and ``counts``.
    """
    rows = [{'index': row['index'], 'name': f'{row["class"]}{row["index"]}'} for row in census.lesions]
    written = {suffix: save_array(name(suffix, '.nii.gz'), volume, like)
               for suffix, volume in (('mask', census.mask), ('dseg', census.labels), ('probseg', census.probability))}
    return written | {
        'labels': write_tsv(name('dseg', '.tsv'), rows, ['index', 'name']),
        'lesions': write_tsv(name('lesions', '.tsv'), census.lesions, list(COLUMNS)),
        'counts': write_tsv(name('counts', '.tsv'), count_lesions(census.lesions, census.located),
                            list(COUNT_COLUMNS))}


class FindMicrobleedsInputSpec(NumericInputSpec):
    mask = File(exists=True, mandatory=True, desc='brain')
    chi = File(exists=True, desc='ppm')
    other_chi = File(exists=True, desc='of another software, in the place of chi')
    r2star = File(exists=True, desc='1/s')
    regions = File(exists=True, desc='indices of the table of labels')
    field = File(exists=True, desc='total field, ppm')
    weights = traits.Str(desc='of the network that grades; rules without')


class FindMicrobleedsOutputSpec(TraitedSpec):
    mask = File(desc='definite and possible microbleeds')
    dseg = File(desc='all lesions by index')
    labels = File(desc='TSV of the indices')
    probseg = File(desc='score')
    lesions = File(desc='TSV of the lesions')
    counts = File(desc='TSV of their counts')
    metadata = traits.Dict(desc='for the sidecars of images')
    metrics = traits.Dict(desc='for the table of quality')


class FindMicrobleeds(NumericInterface):
    input_spec = FindMicrobleedsInputSpec
    output_spec = FindMicrobleedsOutputSpec

    def _compute(self, folder):
        chosen, other = self.inputs, given(self.inputs.other_chi)
        images = {name: path for name in ('chi', 'r2star') if (path := given(getattr(chosen, name)))}
        if other:
            images = {'chi': other} | {name: path for name, path in images.items() if name != 'chi'}
            check_map(other, chosen.mask)
        regions = load_array(chosen.regions, np.uint8) if given(chosen.regions) else None
        mask, affine = load_mask(chosen.mask), load_image(chosen.mask).affine
        said, classify = grading(given(chosen.weights), images.get('chi'))
        census = find_microbleeds(load_array(images['chi']) if 'chi' in images else None, mask, affine, regions=regions,
                                  r2star=load_array(images['r2star']) if 'r2star' in images else None,
                                  field=load_array(chosen.field) if given(chosen.field) else None, classify=classify)
        self._results |= write_census(
            census, lambda suffix, extension: folder / f'{suffix}{extension.removesuffix(".gz")}', chosen.mask)
        counts = {row['region']: row for row in count_lesions(census.lesions, census.located) if row['class'] == 'cmb'}
        self._results['metadata'] = {'Inputs': list(images), 'LowConfidence': census.low_confidence} | said
        if other:
            self._results['metadata']['SusceptibilityMap'] = Path(other).as_uri()
        self._results['metrics'] = {f'microbleeds_{name}': counts['all'][name] for name in ('definite', 'possible')}
