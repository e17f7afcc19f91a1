import nibabel
import numpy as np
import pytest

from qsmbids.core.phase import wrap
from qsmbids.files import FileError
from qsmbids.interfaces.channels import read_echoes

SHAPE, CHANNELS = (24, 22, 20), 3
ECHO_TIMES = (0.005, 0.010)


@pytest.fixture(scope='module')
def scan(tmp_path_factory):
    """Two echoes of three channels, as integers a scanner would store, and the phase of the field alone."""
    folder = tmp_path_factory.mktemp('channels')
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing='ij')
    field = 20 * x * y + 10 * z
    paths = {'magnitude': [], 'phase': [], 'real': [], 'imaginary': []}
    for echo, time in enumerate(ECHO_TIMES):
        signal = np.stack([(1 + 0.3 * x * channel) * np.exp(1j * (2 * np.pi * field * time + channel + y * channel))
                           for channel in range(CHANNELS)], axis=-1)
        for name, volume in (('magnitude', 1000 * np.abs(signal)), ('phase', np.round(np.angle(signal) / np.pi * 4096)),
                             ('real', signal.real), ('imaginary', signal.imag)):
            paths[name].append(folder / f'{name}{echo}.nii{".gz" if echo else ""}')
            nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), np.diag([8., 8, 8, 1])), paths[name][-1])
    return paths, field


@pytest.mark.parametrize('parts', [('magnitude', 'phase'), ('real', 'imaginary')])
def test_channels_in_files_are_combined(scan, tmp_path, parts):
    paths, field = scan
    echoes = read_echoes({part: paths[part] for part in parts}, tmp_path, echo_times=ECHO_TIMES, voxel_size=(8, 8, 8))
    assert echoes.phase.shape == (*SHAPE, 2) and not list(tmp_path.iterdir())
    growth = echoes.phase[..., 1] - echoes.phase[..., 0]
    assert np.abs(wrap(growth - 2 * np.pi * field * 0.005)).max() < 0.02
    assert any('3 channels were combined' in note for note in echoes.notes)
    assert len(set(echoes.notes)) == len(echoes.notes)


def test_one_file_with_a_fourth_axis_holds_echoes(scan, tmp_path):
    paths, _ = scan
    echoes = read_echoes({part: paths[part][:1] for part in ('magnitude', 'phase')}, tmp_path)
    assert echoes.phase.shape == (*SHAPE, CHANNELS)


def test_bad_input_is_named(scan, tmp_path):
    paths, _ = scan
    with pytest.raises(FileError, match='3 channels.*without phase'):
        read_echoes({'magnitude': paths['magnitude']}, tmp_path, echo_times=ECHO_TIMES, voxel_size=(8, 8, 8))
    flat = tmp_path / 'flat.nii'
    nibabel.save(nibabel.Nifti1Image(np.ones(SHAPE, np.float32), np.eye(4)), flat)
    with pytest.raises(ValueError, match='1, 3 channels'):
        read_echoes({'magnitude': [paths['magnitude'][0], flat], 'phase': paths['phase']}, tmp_path)
