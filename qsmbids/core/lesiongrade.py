"""The rules that give a blob its class and a score: what each feature must be like, and what its neighbours are.

Each rule is a ramp from 0 to 1 over a feature, and the score is their product: it says how many rules a blob bends and
how far, and is no probability in the sense of a count. The features are those that readers go by [1]_: round, half
surrounded by tissue, no vein, no edge, no calcification, no iron of a nucleus.

References
----------
.. [1] Greenberg SM, et al. Cerebral microbleeds: a guide to detection and interpretation. Lancet Neurol 2009;8:165-174.
"""

import numpy as np
from scipy.spatial import cKDTree

from qsmbids.core.separation import RELAXIVITY

CLASSES = {'cmb': 'microbleed', 'calcification': 'calcification, diamagnetic', 'vessel': 'vein',
           'deep_iron': 'iron of a deep nucleus', 'artifact': 'streak, edge or noise'}
LISTED, POSSIBLE, DEFINITE = .2, .5, .8
MOST_UNSIGNED = .79        # of what susceptibility does not show: the sign is not known
# Nuclei that mineralise in places or are as small as a lesion; those in which a weak blob may well be a bleed.
IRON = ('PallidumExternal', 'PallidumInternal', 'Pallidum', 'RedNucleus', 'SubstantiaNigra', 'Subthalamic', 'Dentate')
DEEP = ('Caudate', 'Putamen', 'Thalamus')
ABOVE_NUCLEUS = .3         # ppm over the median of a nucleus, that its own iron does not reach
LEAST_KNOWN = .6           # share of a blob's core in which the susceptibility is known
# Around a stronger lesion: how far from its rim, which share of its contrast, and what is left of the score. A shadow
# has the other sign.
SHADOW_MM, SHADOW_SHARE, SHADOW_MARK = 3., .5, .1
STREAK_MM, STREAK_SHARE, STREAK_MARK = 8., .12, .4
# Middles of one lesion: in two maps; in one map, or this share of its radius.
SAME_MM, LEAST_MM, SHARE = 3., 1.5, .8
# Feature: where its ramp begins and ends; ppm, mm, 1/s. What is as large as a red nucleus needs twice the contrast.
RULES = {'contrast': (.06, .18), 'noise': (4., 10.), 'blobness': (.25, .65), 'sphericity': (.35, .6),
         'elongation': (2.4, 1.6), 'tail': (2.1, 1.5), 'diameter': (14., 10.), 'parenchyma': (.3, .65),
         'edge': (.5, 2.5)}
DIAMAGNETIC = {'contrast': (.12, .3)}  # streaks are dark more often than bright
LARGE_MM = 4., 6.
FEW, UNSURE = (4, 1), .8   # voxels of a region: what is one voxel needs 1.8 times the contrast
OPEN_SCORE, NO_DECAY_SCORE = .4, .4
DECAY = -2., 8.            # R2* over the tissue around, 1/s
DARKEST = .7               # ppm that R2* shows, over the median: beyond it is noise
# The same over what the susceptibility would make it; what is left of the score of a speck in a map without any.
DECAY_SHARE, SPECK_MARK = (.05, .35), .2
_PLAIN = ('blobness', 'sphericity', 'elongation', 'tail', 'diameter', 'parenchyma', 'edge')


def ramp(value, start, end):
    """Return 0 up to `start`, 1 from `end` on, and a straight line between; `end` may lie below `start`."""
    return float(np.clip((value - start) / (end - start), 0, 1))


def judge(blob, amplitude=1.):
    """Return the class of a blob and its score.

    Parameters
    ----------
    blob : Blob
        With what was measured of it.
    amplitude : float, default 1
        What thresholds in ppm are multiplied by.
    """
    rules = RULES | (DIAMAGNETIC if blob.sign < 0 else {})
    size = amplitude * (1 + ramp(blob.diameter, *LARGE_MM) + UNSURE * ramp(blob.voxels, *FEW))
    values = {'contrast': blob.contrast / size, 'noise': blob.contrast / max(blob.spread, 1e-6),
              **{name: getattr(blob, name) for name in _PLAIN}}
    marks = {name: ramp(value, *rules[name]) for name, value in values.items()}
    if blob.open and blob.source != 'void':  # what is dark beyond measure has no rim
        marks['open'] = OPEN_SCORE
    if blob.decay is not None and blob.source == 'chi':
        marks['decay'] = NO_DECAY_SCORE + (1 - NO_DECAY_SCORE) * ramp(blob.decay, *DECAY)
    score = float(np.prod(list(marks.values())))
    tube = 1 - min(marks[name] for name in ('blobness', 'elongation', 'tail'))
    tube *= float(np.prod([marks[name] for name in ('contrast', 'noise', 'edge')]))
    if not has_sign(blob):
        score, tube = min(score, MOST_UNSIGNED), min(tube, MOST_UNSIGNED)
    if blob.sign < 0:
        return 'calcification', score
    weak = blob.above_nucleus is not None and blob.above_nucleus < ABOVE_NUCLEUS * amplitude
    if weak and blob.nucleus in IRON:
        return 'deep_iron', score
    if weak and blob.nucleus in DEEP:
        score = min(score, MOST_UNSIGNED)
    return ('vessel', tube) if tube > max(score, POSSIBLE) else ('cmb', score)


def grade(blobs, amplitude, steps, shares=None):
    """Return the class and the score of each blob, by the rules or by a network.

    Parameters
    ----------
    blobs : sequence of Blob
        All of a scan.
    amplitude : float
        What thresholds in ppm are multiplied by.
    steps : sequence of float
        Voxel size, mm.
    shares : ndarray, shape (n, 3), optional
        Probability that each is a microbleed, a calcification or neither. What is neither has the class and the score
        of the rules, if these see a vein or the iron of a nucleus; a weak one in such a nucleus is its iron whatever
        the network says.

    Returns
    -------
    list of (str, float)
    """
    judged = [judge(blob, amplitude) for blob in blobs]
    if shares is None:
        return [(kind, score * mark * decay_mark(blob))
                for (kind, score), mark, blob in zip(judged, shadow_marks(blobs, steps), blobs)]
    return [_by_network(blob, *ruled, *map(float, share[:2])) for blob, ruled, share in zip(blobs, judged, shares)]


def has_sign(blob):
    """Return whether the sign of the susceptibility is known: seen in the map, or told by the field around a void."""
    return blob.source == 'chi' or blob.moment is not None


def decay_mark(blob):
    """Return by what to multiply the score of a blob whose R2* is not what its susceptibility would make it.

    An error of the field makes specks in a map, but no decay.
    """
    if blob.source != 'chi' or blob.decay is None:
        return 1.
    share = blob.decay / (RELAXIVITY * min(blob.contrast, DARKEST))
    return SPECK_MARK + (1 - SPECK_MARK) * ramp(share, *DECAY_SHARE)


def _by_network(blob, ruled, score, bleed, stone):
    if blob.source == 'chi':
        bleed, stone = (bleed, 0.) if blob.sign > 0 else (0., stone)
    elif has_sign(blob):  # the network has not seen the field: it tells that there is a lesion
        bleed, stone = (bleed + stone, 0.) if blob.sign > 0 else (0., bleed + stone)
    else:
        bleed, stone = min(bleed, MOST_UNSIGNED), min(stone, MOST_UNSIGNED)
    if max(bleed, stone) < LISTED:
        return ruled, score if ruled in ('vessel', 'deep_iron') else 0.
    if stone > bleed:
        return 'calcification', stone
    return ruled if ruled == 'deep_iron' else 'cmb', bleed


def without_doubles(blobs, steps):
    """Return the blobs that are not one with a stronger one, the strongest first.

    Doubles have one peak, or one middle lies within the other. What only R2* shows is kept where no blob of the
    susceptibility lies, of whatever sign.
    """
    order = sorted(blobs, key=lambda blob: (blob.source != 'chi', -blob.contrast))
    kept = np.ones(len(order), bool)
    for first, second, distance in _pairs(order, steps, SAME_MM):
        stronger, weaker = order[first], order[second]
        one_kind = stronger.sign == weaker.sign or weaker.source != 'chi'
        one_place = np.array_equal(stronger.seed, weaker.seed) or distance < max(
            SAME_MM if weaker.source != stronger.source else LEAST_MM, SHARE * stronger.diameter / 2)
        if kept[first] and one_kind and one_place:
            kept[second] = False
    return [blob for blob, keep in zip(order, kept) if keep]


def shadow_marks(blobs, steps):
    """Return by what to multiply the score of each blob because of a stronger one around which the inversion errs."""
    order = sorted(range(len(blobs)), key=lambda number: -blobs[number].contrast)
    marks = np.ones(len(blobs))
    for first, second, distance in _pairs([blobs[number] for number in order], steps, STREAK_MM):
        stronger, weaker = blobs[order[first]], blobs[order[second]]
        gap = distance - (stronger.diameter + weaker.diameter) / 2
        share = weaker.contrast / max(stronger.contrast, 1e-6)
        if stronger.sign != weaker.sign and gap < SHADOW_MM and share < SHADOW_SHARE:
            marks[order[second]] *= SHADOW_MARK
        elif gap < STREAK_MM and share < STREAK_SHARE:
            marks[order[second]] *= STREAK_MARK
    return marks


def _pairs(blobs, steps, gap):
    """Return numbers (the first is the smaller) and distance, mm, of blobs whose rims may lie within a gap."""
    if len(blobs) < 2:
        return []
    centres = np.array([blob.centre for blob in blobs]) * steps
    reach = gap + max(blob.diameter for blob in blobs)
    pairs = cKDTree(centres).query_pairs(reach, output_type='ndarray')
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    distances = np.linalg.norm(centres[pairs[:, 0]] - centres[pairs[:, 1]], axis=1)
    return [(int(a), int(b), float(d)) for (a, b), d in zip(pairs, distances)]
