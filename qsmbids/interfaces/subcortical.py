"""Regions of an acquisition, from each rung of the ladder, and the table of their values."""

import numpy as np
from nipype.interfaces.base import File, InputMultiObject, TraitedSpec, traits

from qsmbids.core.grid import bounding_box, move_points
from qsmbids.core.labels import BY_INDEX, BY_NAME, FINEST, STRUCTURES, label_rows
from qsmbids.core.quality import noise_level
from qsmbids.core.registration import LEAST_GAIN, align_rigid, resample_labels
from qsmbids.core.statistics import (COLUMNS, SEGMENTED, Map, Segmentation, describe_columns, extreme_voxels,
                                     region_statistics)
from qsmbids.files import FileError, describe, write_tsv
from qsmbids.headers import check_grid, load_image
from qsmbids.interfaces.base import NumericInputSpec, NumericInterface, given
from qsmbids.interfaces.images import load_array, load_mask, save_array
from qsmbids.networks.shipped import sha256, shipped
from qsmbids.reports.status import IDENTITY
from qsmbids.segmentations import read_table

LEADING = IDENTITY | SEGMENTED
LABEL_COLUMNS = ('index', 'name', 'abbreviation', 'hemisphere', 'mapping', 'color')
# A network doubts a little wherever it looks; so small a share of so many voxels is no partial volume.
LEAST_SHARE = .1
_LARGE = ('Caudate', 'Putamen', 'Thalamus')


class RegionsOutputSpec(TraitedSpec):
    labels = File(desc='indices of the table of labels')
    table = File(desc='TSV of what they are')
    shares = File(desc='probability of each region, by index: boxes in one npz file')
    known = traits.List(traits.Int, desc='indices that the segmentation tells apart')
    metadata = traits.Dict(desc='for the sidecar')
    warnings = traits.List(traits.Str)


class LabelsInterface(NumericInterface):
    """What all rungs write."""

    output_spec = RegionsOutputSpec

    def _write(self, folder, labels, shares, known, like, metadata, warnings):
        labels = labels.astype(np.uint8)
        present = [index for index in np.unique(labels) if index]
        if not present:
            warnings = [*warnings, 'subcortical: no region was found, so there are no values of regions']
        self._results['labels'] = save_array(folder / 'regions.nii', labels, like)
        rows = label_rows([BY_INDEX[index] for index in sorted({*known, *present})])
        self._results['table'] = write_tsv(folder / 'regions.tsv', rows, LABEL_COLUMNS)
        self._results['shares'] = save_shares(folder / 'shares.npz', shares)
        self._results |= {'known': [int(index) for index in known], 'metadata': metadata, 'warnings': warnings}


class GivenRegionsInputSpec(NumericInputSpec):
    name = traits.Str(mandatory=True, desc='of the pipeline')
    in_file = File(exists=True, mandatory=True, desc='label map')
    in_table = File(exists=True, desc="TSV of its indices; FreeSurfer's without it")
    image = File(exists=True, desc='of the same space, to align it by')
    aligned = traits.Bool(usedefault=True, desc='whether it lies where the acquisition does')
    magnitude = File(exists=True, mandatory=True, desc='3D')
    mask = File(exists=True, mandatory=True, desc='brain')


class GivenRegions(LabelsInterface):
    """Bring a segmentation of another pipeline to the grid of the acquisition, in one interpolation."""

    input_spec = GivenRegionsInputSpec

    def _compute(self, folder):
        chosen, source = self.inputs, load_image(self.inputs.in_file)
        meaning = read_table(given(chosen.in_table))
        volume = np.rint(load_array(chosen.in_file)).astype(np.int32)
        if volume.ndim == 4 and volume.shape[3] == 1:
            volume = volume[..., 0]
        if volume.ndim != 3:
            raise FileError(f'{chosen.in_file}: a segmentation must be 3D, this one has the shape {volume.shape}')
        labels = translate(volume, meaning)
        target = load_image(chosen.magnitude)
        try:
            check_grid(chosen.in_file, chosen.magnitude)
            same = True
        except FileError:
            same = False
        registration, warnings, matrix = {'Name': 'none: it lies on the grid'}, [], np.eye(4)
        if not (same or chosen.aligned):
            matrix, registration, warnings = self._align(labels, source.affine, target)
        shares = {}
        if not same:
            labels, shares = resample_labels(labels, source.affine, target.shape[:3], target.affine, matrix)
        self._write(folder, labels, shares, sorted(set(meaning.values())), chosen.magnitude,
                    {'SegmentationSource': chosen.name, 'SegmentationFile': str(chosen.in_file),
                     'Registration': registration,
                     'Interpolation': 'none' if same else 'linear of each label, the largest share'}, warnings)

    def _align(self, labels, affine, target):
        """Return the matrix from the acquisition to the segmentation, what is said of it, and warnings."""
        chosen = self.inputs
        if not given(chosen.image):
            return np.eye(4), {'Name': 'none: by the headers'}, [
                f'subcortical: there is no T1w image to align the segmentation {chosen.name} by, so the headers are '
                'trusted; look at the outlines of the nuclei']
        mask, image = load_mask(chosen.mask), load_image(chosen.image)
        start = np.eye(4)
        start[:3, 3] = _centre(labels > 0, affine) - _centre(mask, target.affine)
        found = align_rigid(load_array(chosen.magnitude), target.affine, load_array(chosen.image), image.affine, mask,
                            starts=[start])
        warnings = [] if found.gain >= LEAST_GAIN else [
            f'subcortical: the T1w image does not fit the magnitude anywhere in particular (gain {found.gain:.2f}); '
            'look at the outlines of the nuclei']
        return found.matrix, {'Name': 'rigid, normalised mutual information', 'Image': str(chosen.image),
                              'Matrix': found.matrix.tolist(), 'NormalisedMutualInformation': 1 + found.information,
                              'Gain': found.gain}, warnings


def translate(volume, meaning):
    """Return a label map with our indices instead of its own; what has no meaning becomes 0."""
    table = np.zeros(max(int(volume.max()), *meaning, 0) + 1, np.int16)
    table[list(meaning)] = list(meaning.values())
    return table[np.maximum(volume, 0)]


def _centre(mask, affine):
    return move_points(affine, np.argwhere(mask).mean(axis=0)) if mask.any() else np.zeros(3)


class NetworkRegionsInputSpec(NumericInputSpec):
    chi = File(exists=True, mandatory=True, desc='ppm')
    mask = File(exists=True, mandatory=True, desc='where it is known')
    magnitude = File(exists=True, desc='3D')
    r2star = File(exists=True, desc='1/s')
    voxel_size = traits.Tuple(traits.Float, traits.Float, traits.Float, mandatory=True, desc='mm')
    weights = traits.Str(mandatory=True)


class NetworkRegions(LabelsInterface):
    """Segment by a network. A map that it cannot make anything of gives no regions, and a warning."""

    input_spec = NetworkRegionsInputSpec

    def _compute(self, folder):
        from qsmbids.networks.segmentation import segment
        chosen, mask = self.inputs, load_mask(self.inputs.mask)
        others = {name: load_array(path) for name in ('magnitude', 'r2star') if (path := given(getattr(chosen, name)))}
        affine, warnings = load_image(chosen.chi).affine, []
        try:
            labels, found = segment(load_array(chosen.chi), mask, chosen.voxel_size, affine=affine,
                                    weights=chosen.weights, probabilities=True, **others)
        except ValueError as error:
            labels, found = np.zeros(mask.shape, np.uint8), {}
            warnings.append(f'subcortical: the network found no regions: {error}')
        self._write(folder, labels, _by_side(found, labels), [label.index for label in FINEST], chosen.chi,
                    {'SegmentationSource': f'network {chosen.weights}', 'Inputs': ['chi', *others],
                     'WeightsSHA256': sha256(shipped(chosen.weights))}, warnings)


def _by_side(probabilities, labels):
    """Return the probabilities of structures as those of their sides, each voxel that of the nearer one."""
    shares = {}
    for name, volume in probabilities.items():
        known = volume >= LEAST_SHARE
        if not known.any():
            continue
        box = bounding_box(known)
        share, there = np.where(known[box], volume[box], 0), labels[box]
        sides = {side: BY_NAME[f'{name}_{side}'].index for side in 'LR'} if STRUCTURES[name].paired else {}
        centres = {side: np.argwhere(there == index).mean(axis=0) for side, index in sides.items()
                   if (there == index).any()}
        parts = {sides[side]: share for side in centres} if sides else {BY_NAME[name].index: share}
        if len(centres) == 2:
            way = centres['R'] - centres['L']
            along = sum(step * part for step, part in zip(np.ogrid[tuple(map(slice, share.shape))], way))
            right = along > (centres['L'] + centres['R']) @ way / 2
            parts = {sides['L']: share * ~right, sides['R']: share * right}
        for index, part in parts.items():
            shares[index] = np.zeros_like(volume)
            shares[index][box] = part
    return shares


def save_shares(path, shares):
    """Write probabilities by index, each cut to where it is not zero."""
    content = {}
    for index, volume in shares.items():
        if (known := volume > 0).any():
            box = bounding_box(known)
            content |= {f'share{index}': np.rint(255 * volume[box]).astype(np.uint8),
                        f'box{index}': np.array([(side.start, side.stop) for side in box])}
    np.savez_compressed(path, **content)
    return str(path)


def load_shares(path, shape):
    """Return what :func:`save_shares` wrote, on a grid of `shape`."""
    shares = {}
    with np.load(path) as content:
        for name in content.files:
            if name.startswith('share'):
                volume = np.zeros(shape, np.float32)
                volume[tuple(slice(*side) for side in content[f'box{name[5:]}'])] = content[name] / np.float32(255)
                shares[int(name[5:])] = volume
    return shares


class RegionStatisticsInputSpec(NumericInputSpec):
    labels = File(exists=True, mandatory=True, desc='indices of the table of labels')
    shares = File(exists=True, desc='probabilities')
    known = traits.List(traits.Int, desc='indices that the segmentation tells apart')
    chi = InputMultiObject(File(exists=True), desc='one map per method, ppm')
    chi_names = traits.List(traits.Str, desc='the methods, in the order of the maps')
    references = InputMultiObject(traits.Dict, desc='metadata of each referenced map')
    separated = InputMultiObject(File(exists=True), desc='maps of positive and negative sources, ppm')
    separated_names = traits.List(traits.Str, desc='their names, in the order of the maps')
    r2star = File(exists=True, desc='1/s')
    r2star_name = traits.Str(desc='method of the fit')
    mask = File(exists=True, mandatory=True, desc='brain')
    qsm = File(exists=True, desc='where the susceptibility is known')
    csf = File(exists=True, desc='reference region')
    lesions = File(exists=True, desc='microbleeds, to be left out')
    magnitude = File(exists=True, mandatory=True, desc='4D, echo last')
    voxel_size = traits.Tuple(traits.Float, traits.Float, traits.Float, mandatory=True, desc='mm')
    identity = traits.Dict(mandatory=True, desc='columns that are the same in all rows')
    adult = traits.Bool(True, usedefault=True, desc='whether volumes of adults are expected')


class RegionStatisticsOutputSpec(TraitedSpec):
    table = File(desc='TSV')
    warnings = traits.List(traits.Str)


class RegionStatistics(NumericInterface):
    input_spec = RegionStatisticsInputSpec
    output_spec = RegionStatisticsOutputSpec

    def _compute(self, folder):
        chosen = self.inputs
        labels, brain = load_array(chosen.labels, np.int16), load_mask(chosen.mask)
        shares = load_shares(chosen.shares, labels.shape) if given(chosen.shares) else {}
        segmentation = Segmentation(labels, shares, tuple(given(chosen.known)) if given(chosen.known) else None)
        first = np.asarray(load_image(chosen.magnitude).dataobj[..., 0])
        beside = {'magnitude': first, 'noise': noise_level(first, brain), 'adult': chosen.adult}
        if given(chosen.lesions):
            beside['lesions'] = load_array(chosen.lesions) > 0
        rows = []
        if given(chosen.chi):
            susceptibilities = self._susceptibilities()
            beside['extreme'] = extreme_voxels([found.values for found in susceptibilities if found.metric == 'chi'])
            csf = load_array(chosen.csf) > 0.5 if given(chosen.csf) else None
            rows += region_statistics(susceptibilities, segmentation, load_mask(chosen.qsm), chosen.voxel_size,
                                      csf=csf, **beside)
        if given(chosen.r2star):
            volume = Map('R2star', load_array(chosen.r2star), '1/s', chosen.r2star_name)
            rows += region_statistics([volume], segmentation, brain, chosen.voxel_size, **beside)
        identity = chosen.identity
        self._results['table'] = write_tsv(folder / 'regions.tsv', [identity | row for row in rows],
                                           [*LEADING, *COLUMNS])
        self._results['warnings'] = _warnings(rows)

    def _susceptibilities(self):
        chosen = self.inputs
        references = given(chosen.references, [])
        maps = [Map('chi', load_array(path), 'ppm', name, metadata.get('SusceptibilityReference'))
                for name, path, metadata in zip(chosen.chi_names, chosen.chi, references)]
        for name, path in zip(given(chosen.separated_names, []), given(chosen.separated, [])):
            sign = 'positive' if name.endswith('positive') else 'negative'
            maps.append(Map(f'chi_{sign[:3]}', load_array(path), 'ppm', name))
        return maps


def _warnings(rows):
    """Return in a line which of the large nuclei cannot be trusted, and what there is no reference of."""
    whole = [row for row in rows if not row['erosion_mm'] and row['metric'] in ('chi', 'R2star')]
    doubtful = dict.fromkeys(f'{row["roi"]} {row["hemi"]}' for row in whole if row['roi'] in _LARGE
                             and row['hemi'] != 'B' and row['qc'] in ('fail', 'missing'))
    return [f'subcortical: {", ".join(doubtful)} cannot be trusted; the table of regions says why'] if doubtful else []


def describe_table():
    """Return the JSON dictionary of the table of an acquisition."""
    return describe(LEADING) | describe_columns()
