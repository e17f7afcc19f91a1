"""Candidates of lesions to learn from, each with what it truly is, and their stream.

As the other streams it depends on nothing but a seed and a position. Scans are slow to make, so what they give is kept:
in memory, and in a folder if there is one.
"""

from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from qsmbids.core.dipole import voxel_size_of
from qsmbids.core.grid import move_points
from qsmbids.core.lesioncandidates import Scene, find_candidates
from qsmbids.core.lesiontable import places_of
from qsmbids.core.metrics import near_by_distance, pair_by_distance
from qsmbids.files import write_atomically
from qsmbids.networks.lesionnet import CHANNELS, CLASSES, FEATURES, candidate_inputs
from qsmbids.simulation.anatomy import head_from_labels, load_labels
from qsmbids.simulation.head import digital_head
from qsmbids.training.lesionscans import lesion_scan
from qsmbids.training.streams import BlockStream

TOLERANCE = 2.5       # mm, or the lesion's radius
BLIND = .5            # share of the maps that are looked at a second time without R2*
FIRST = 6             # scans that are there for the first block; as many more come with each
SHARES = {'cmb': .3, 'calcification': .15, 'mimic': .25, 'neither': .3}   # of a block
HARD = .05            # score of the rules from which on what is neither may be taken for a lesion
UNCLEAR = -1          # class of a candidate that no one would call right or wrong


class LesionStream(BlockStream):
    """Batches of candidates.

    Parameters
    ----------
    anatomies : list of path
        Label maps.
    seed : int
    parametric : bool, default True
        Whether there are parametric heads, too.
    scans : int, default 60
        How many there are in the end.
    candidates : int, default 2048
        In a block.
    batch : int, default 64
        Candidates in a batch; divides `candidates`.
    cache : str, optional
        Folder that keeps the candidates of scans.
    """

    def __init__(self, anatomies, seed, *, parametric=True, scans=60, candidates=2048, batch=64, cache=''):
        heads = [None] * parametric + [str(path) for path in anatomies]
        pool = [(heads[n % len(heads)], (seed + n // len(heads), n % len(heads))) for n in range(scans)]
        super().__init__(make_lesion_block, (pool, seed, candidates, str(cache)), candidates, 'candidates', batch)


def make_lesion_block(pool, seed, count, cache, block):
    """Return the candidates of a block, in random order: patches (float16), features, classes."""
    rng = np.random.Generator(np.random.PCG64([seed, block]))
    known = [looks_at(path, key, cache) for path, key in pool[:FIRST * (block + 1)]]
    looks = [look for scan in known for look in scan]
    owner = np.repeat(np.arange(len(looks)), [len(look['classes']) for look in looks])
    place = np.concatenate([np.arange(len(look['classes'])) for look in looks])
    weight = _weights(*(np.concatenate([look[name] for look in looks]) for name in ('classes', 'mimic', 'features')))
    chosen = rng.choice(len(owner), count, p=weight)
    patches, features, classes = (np.stack([looks[owner[n]][name][place[n]] for n in chosen])
                                  for name in ('patches', 'features', 'classes'))
    return {'patches': np.stack([turned(patch, rng) for patch in patches]), 'features': jittered(features, rng),
            'classes': classes}


def _weights(classes, mimic, features):
    """Return how probable each candidate is to be drawn."""
    neither = classes == CLASSES.index('neither')
    hard = neither & (mimic | (features[:, FEATURES.index('rules')] > HARD))
    kinds = {'cmb': classes == CLASSES.index('cmb'), 'calcification': classes == CLASSES.index('calcification'),
             'mimic': hard, 'neither': neither & ~hard}
    weight = sum(SHARES[name] * members / max(members.sum(), 1) for name, members in kinds.items())
    return weight / weight.sum()


def turned(patch, rng):
    """Return a patch turned over, its first axes perhaps exchanged, with another amplitude and some noise."""
    flips = tuple(1 + int(axis) for axis in np.flatnonzero(rng.random(3) < .5))
    patch = np.flip(patch, flips).astype(np.float32)
    if rng.random() < .5:
        patch = patch.swapaxes(1, 2)
    chi = CHANNELS.index('chi')
    noisy = np.sinh(patch[chi]) * np.float32(np.exp(.15 * rng.standard_normal()))
    noisy += np.float32(rng.uniform(0, .15)) * rng.standard_normal(noisy.shape, dtype=np.float32)
    patch = patch.copy()
    patch[chi] = np.arcsinh(noisy)
    return patch.astype(np.float16)


def jittered(features, rng):
    """Return features with errors of a few per cent, but for those that are yes or no."""
    noise = .03 * rng.standard_normal(features.shape)
    noise[:, [FEATURES.index(name) for name in ('sign', 'unseen', 'open', 'has_decay')]] = 0
    return (features + noise).astype(np.float32)


@lru_cache(maxsize=None)
def looks_at(path, key, cache=''):
    """Return the candidates of a scan's maps, each with R2* and some without.

    Parameters
    ----------
    path : str or None
        Label map; the parametric head without.
    key : tuple of int
        Seed.
    cache : str, optional
        Folder that keeps them.

    Returns
    -------
    list of dict
        patches (float16), features, classes, as of `networks.lesionnet`; mimic, whether a candidate is a lesion of
        another class; places (mm) and bleeds (x, y, z, radius in mm, chi in ppm) of the microbleeds that there are.
    """
    name = 'code' if path is None else Path(path).name.split('.')[0]
    kept = Path(cache) / f'{name}_{"_".join(map(str, key))}.npz' if cache else None
    if kept and kept.exists():
        with np.load(kept) as content:
            return _apart(dict(content))
    sample = partial(digital_head, fine=True) if path is None else head_from_labels(*load_labels(path))
    looks = candidates_of(lesion_scan(sample, key), np.random.Generator(np.random.PCG64([*key, 1])))
    if kept:
        arrays = {f'{name}_{n}': values for n, look in enumerate(looks) for name, values in look.items()}
        write_atomically(kept, lambda temporary: np.savez(temporary, **arrays))
    return looks


def _apart(content):
    count = 1 + max(int(name.rsplit('_', 1)[1]) for name in content)
    return [{name.rsplit('_', 1)[0]: values for name, values in content.items() if name.endswith(f'_{n}')}
            for n in range(count)]


def candidates_of(scan, rng):
    """Return what `looks_at` does, of a `lesionscans.LesionScan`."""
    looks = []
    for chi in scan.maps.values():
        for r2star in (scan.r2star, None)[:1 + (rng.random() < BLIND)]:
            scene = Scene.of(chi, scan.mask, voxel_size_of(scan.affine), r2star)
            blobs = find_candidates(scene)
            asked, patches, features = candidate_inputs(scene, blobs)
            blobs = [blob for blob, ask in zip(blobs, asked) if ask]
            places = move_points(scan.affine, scene.grid.to_scan(np.reshape([blob.centre for blob in blobs], (-1, 3))))
            classes, mimic = true_classes(blobs, places, scan.truth)
            bleeds = [row for row in scan.truth if row['class'] == 'cmb']
            sizes = np.reshape([(row['diameter_mm'] / 2, row['chi_ppm']) for row in bleeds], (-1, 2))
            looks.append({'patches': patches.astype(np.float16), 'features': features, 'classes': classes,
                          'mimic': mimic, 'places': places, 'bleeds': np.column_stack([places_of(bleeds), sizes])})
    return looks


def true_classes(blobs, places, truth):
    """Return the class of each candidate and whether it is a lesion of another kind.

    The nearest candidate of the right sign is the lesion; others within its reach are unclear, and so is all within a
    haemorrhage. A blob of the wrong sign beside a lesion is neither.
    """
    classes = np.full(len(blobs), CLASSES.index('neither'), np.int8)
    signs = np.array([blob.sign if blob.source == 'chi' else 0 for blob in blobs])
    mimic = np.zeros(len(blobs), bool)
    for kind, wrong in (('cmb', -1), ('calcification', 1)):
        rows = [row for row in truth if row['class'] == kind]
        points, radii = places_of(rows), _radii(rows)
        right = np.flatnonzero(signs != wrong)
        classes[right[near_by_distance(places[right], points, radii, TOLERANCE).any(axis=1)]] = UNCLEAR
        classes[right[pair_by_distance(places[right], points, radii, TOLERANCE)[:, 0]]] = CLASSES.index(kind)
    others = [row for row in truth if row['class'] not in CLASSES]
    near = near_by_distance(places, places_of(others), _radii(others), TOLERANCE)
    neither = classes == CLASSES.index('neither')
    mimic[neither & near.any(axis=1)] = True
    large = near[:, [row['class'] == 'haemorrhage' for row in others]].any(axis=1)
    classes[neither & large] = UNCLEAR
    return classes, mimic


def _radii(rows):
    return np.array([row['diameter_mm'] / 2 for row in rows])
