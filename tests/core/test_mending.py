import numpy as np
import pytest
from scipy.fft import fftfreq, fftn, ifftn

from qsmbids.core.dipole import forward_field
from qsmbids.core.fieldmap import total_field
from qsmbids.core.masks import reliable_mask
from qsmbids.core.mending import branch_step, mend_field
from qsmbids.core.phase import hz_to_ppm, ppm_to_hz
from qsmbids.core.threads import use_threads

FREQUENCY = 127.7e6
ECHO_TIMES = (0.004, 0.012, 0.020, 0.028)
SIZE = 36


class Scan:
    """A ball of tissue with susceptibilities in it, in a field that bends, and the field map of its echoes."""

    def __init__(self, chi, *, r2star=20., void=None, factor=1, snr=40, b0_dir=(0., 0., 1.), echo_times=ECHO_TIMES):
        at = (np.arange(SIZE * factor) + 0.5) / factor - SIZE / 2
        x, y, z = np.meshgrid(at, at, at, indexing='ij', sparse=True)
        ball = x ** 2 + y ** 2 + z ** 2 < 15 ** 2
        void = np.zeros(ball.shape, bool) if void is None else void
        field = ppm_to_hz(forward_field(chi, (1 / factor,) * 3, b0_dir), FREQUENCY) + 0.08 * x * y + 3 * z
        signal = np.stack([self.blur(ball * ~void * np.exp((2j * np.pi * field - r2star) * time), factor)
                           for time in echo_times], axis=-1)
        rng = np.random.default_rng(1)
        signal += (rng.standard_normal(signal.shape) + 1j * rng.standard_normal(signal.shape)) / snr
        self.field = self.mean(field, factor)
        self.brain = self.mean(ball.astype(float), factor) > 0.5
        self.magnitude, self.echo_times, self.b0_dir = np.abs(signal).astype(np.float32), echo_times, b0_dir
        self.map = total_field(np.angle(signal), self.magnitude, echo_times, self.brain, (1, 1, 1), FREQUENCY,
                               offset='none')
        # All air stays in it, to be mended.
        self.mask = reliable_mask(self.brain, self.map.residual, self.map.quality, erosion=True)

    @staticmethod
    def mean(volume, factor):
        return volume.reshape(SIZE, factor, SIZE, factor, SIZE, factor).mean(axis=(1, 3, 5))

    @staticmethod
    def blur(signal, factor):
        """The coarse voxels' signal: the central part of k-space."""
        index = np.rint(fftfreq(SIZE, 1 / SIZE)).astype(int)
        shift = np.exp(1j * np.pi * index * (factor - 1) / (SIZE * factor))
        kept = fftn(signal)[np.ix_(index, index, index)]
        kept = kept * shift[:, None, None] * shift[:, None] * shift
        return ifftn(kept) / factor ** 3

    def mend(self, **changes):
        given = dict(field=self.map.field, mask=self.mask, residual=self.map.residual, quality=self.map.quality,
                     magnitude=self.magnitude, echo_times=self.echo_times, voxel_size=(1, 1, 1),
                     center_frequency_hz=FREQUENCY, b0_dir=self.b0_dir)
        return mend_field(**given | changes)

    def error(self, field):
        """Hz, in the mask."""
        return np.abs(ppm_to_hz(field, FREQUENCY) - self.field)[self.mask]


def specks():
    """Voxels of air, alone and side by side."""
    void = np.zeros((SIZE,) * 3, bool)
    for place in ((18, 18, 18), (12, 20, 16), (12, 21, 16), (22, 12, 20), (24, 24, 14), (24, 25, 15)):
        void[place] = True
    return void


def bleed(chi, radius, factor, centre=(0.2, -0.3, 0.4)):
    at = (np.arange(SIZE * factor) + 0.5) / factor - SIZE / 2
    x, y, z = np.meshgrid(*(at - c for c in centre), indexing='ij', sparse=True)
    inside = x ** 2 + y ** 2 + z ** 2 < radius ** 2
    return np.float32(chi) * inside, 20 + 100 * abs(chi) * inside


@pytest.mark.parametrize('b0_dir', [(0., 0., 1.), (0., 0.6, 0.8)])
def test_voxels_beside_air_find_their_branch(b0_dir):
    void = specks()
    scan = Scan(np.float32(9.4) * void, void=void, b0_dir=b0_dir)
    assert void[scan.mask].sum() == void.sum()
    before, mended = scan.error(scan.map.field), scan.mend()
    after = scan.error(mended.field)
    signal = ~void[scan.mask]
    assert np.sum(before[signal] > 100) >= 5
    assert after[signal].max() < 20
    assert np.array_equal(mended.filled, void)
    assert np.sqrt(np.mean(after[~signal] ** 2)) < 30
    # Nothing moved but by whole turns of the first echo.
    turns = ppm_to_hz(mended.field - scan.map.field, FREQUENCY)[mended.moved] * ECHO_TIMES[0]
    assert np.abs(turns - np.rint(turns)).max() < 1e-3 and np.rint(turns).all()
    assert np.array_equal(mended.field != scan.map.field, mended.moved | mended.filled)
    assert mended.notes[0].startswith(f'{mended.moved.sum()} voxels')


@pytest.mark.parametrize('chi, radius', [(3., 1.), (3., 2.), (3., 3.), (2., 2.), (-2., 2.)])
def test_bleeds_and_calcifications_stay_as_they_are(chi, radius):
    source, rate = bleed(chi, radius, 3)
    scan = Scan(source, r2star=rate, factor=3)
    assert np.abs(scan.map.field[scan.mask] * np.sign(chi)).max() > 0.1
    assert scan.mend().field == pytest.approx(scan.map.field, abs=0)


def test_whole_turns_in_a_single_voxel_and_in_a_small_clump_are_undone():
    scan = Scan(np.zeros((SIZE,) * 3, np.float32))
    field, quality = scan.map.field.copy(), scan.map.quality.copy()
    wrong = np.zeros(scan.mask.shape, bool)
    wrong[18, 18, 18] = wrong[12, 12:14, 20:22] = True
    field[wrong] += hz_to_ppm(250, FREQUENCY)
    quality[wrong] = 0.01
    mended = scan.mend(field=field, quality=quality)
    assert mended.field == pytest.approx(scan.map.field, abs=1e-5) and np.array_equal(mended.moved, wrong)
    # Half a turn is no ambiguity of these echoes: it stays.
    field[wrong] -= hz_to_ppm(125, FREQUENCY)
    assert np.array_equal(scan.mend(field=field, quality=quality).field, field)


def test_echoes_that_know_their_branch_are_never_moved():
    void = specks()
    scan = Scan(np.float32(9.4) * void, void=void, echo_times=(0.0024, 0.0049, 0.0081))
    mended = scan.mend()
    assert not mended.moved.any() and np.isfinite(mended.field).all()


def test_trusted_voxels_and_those_outside_the_mask_keep_their_field():
    scan = Scan(np.zeros((SIZE,) * 3, np.float32))
    before = scan.map.field.copy()
    assert np.array_equal(scan.mend().field, before) and np.array_equal(scan.map.field, before)


def test_branch_step_is_a_whole_turn_of_every_echo():
    assert branch_step(ECHO_TIMES) == 250
    assert branch_step((0.010,)) == 100
    assert branch_step((0.004, 0.006, 0.008)) == 500
    assert branch_step((0.0024, 0.0049, 0.0081)) == np.inf


def test_bad_input_is_named():
    scan = Scan(np.zeros((SIZE,) * 3, np.float32))
    for changes, match in [(dict(quality=scan.map.quality[1:]), 'quality'), (dict(mask=0 * scan.mask), 'mask is empty'),
                           (dict(field=scan.map.field * np.nan), 'field'), (dict(voxel_size=(1, 1)), 'voxel_size')]:
        with pytest.raises(ValueError, match=match):
            scan.mend(**changes)


def test_bleeds_stay_as_they_are_in_a_mask_with_all_of_them():
    source, rate = bleed(3., 3., 3)
    scan = Scan(source, r2star=rate, factor=3)
    assert np.sum((scan.map.residual > 0.3) & scan.brain) > 100
    assert not scan.mend(mask=scan.brain).moved.any()


def test_threads_do_not_change_the_result():
    void = specks()
    scan = Scan(np.float32(9.4) * void, void=void)
    fields = []
    for count in (1, 2):
        with use_threads(count):
            fields.append(scan.mend().field)
    assert np.array_equal(*fields) and not np.array_equal(fields[0], scan.map.field)
