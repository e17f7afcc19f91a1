import subprocess
import sys

import nibabel
import numpy as np
import pytest

from qsmbids.cli.tool import build_parser, main
from qsmbids.core.background.sharp import remove_background_vsharp
from qsmbids.core.inversion.medi import invert_medi0
from qsmbids.core.inversion.variational import invert_tv
from qsmbids.core.phase import center_frequency, ppm_to_hz, ppm_to_radians
from qsmbids.core.threads import use_threads
from qsmbids.files import read_tsv

SHAPE, ECHO_TIMES = (32, 30, 28), (0.004, 0.012, 0.020)
AFFINE = np.diag([1.5, 1.5, 2.0, 1.0])


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A smooth field in a ball, its echoes, and names for what the steps write."""
    folder = tmp_path_factory.mktemp('tool')
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing='ij')
    mask = x ** 2 + y ** 2 + z ** 2 < 0.9
    field = (0.2 * (x * y + z) + 0.05 * np.exp(-20 * (x ** 2 + y ** 2 + z ** 2))).astype(np.float32)
    phase = np.stack([ppm_to_radians(field, t, center_frequency(3.0)) for t in ECHO_TIMES], -1)
    magnitude = mask[..., None] * 100 * np.exp(-25 * np.array(ECHO_TIMES))
    volumes = {'field': field, 'mask': mask, 'phase': np.angle(np.exp(1j * phase)), 'magnitude': magnitude,
               'field_hz': ppm_to_hz(field, center_frequency(3.0)), 'empty': 0 * mask, 'other': mask[:-1],
               'field_rad': ppm_to_radians(field, 0.02, center_frequency(3.0)),
               'echo1': magnitude[..., 0], 'echo2': magnitude[..., 1], 'echo3': magnitude[..., 2]}
    paths = {}
    for name, volume in volumes.items():
        paths[name] = str(folder / f'{name}.nii.gz')
        nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), AFFINE), paths[name])
    return paths | {'volumes': volumes, 'folder': folder}


def read(path):
    return nibabel.load(path).get_fdata(dtype=np.float32)


def test_each_step_of_the_issue_calls_the_function_of_the_workflow(files, tmp_path):
    local, mask, chi = (str(tmp_path / name) for name in ('local.nii.gz', 'm2.nii.gz', 'chi.nii.gz'))
    assert main(['background', '--field', files['field'], '--mask', files['mask'], '--method', 'vsharp', '-o', local,
                 '--output-mask', mask, '--nthreads', '1']) == 0
    assert main(['invert', '--field', local, '--mask', mask, '--method', 'tv', '-o', chi, '--nthreads', '1']) == 0
    with use_threads(1):
        volumes = files['volumes']
        expected, known = remove_background_vsharp(volumes['field'], volumes['mask'], (1.5, 1.5, 2.0))
        assert np.array_equal(read(local), expected) and np.array_equal(read(mask) > 0, known)
        assert np.array_equal(read(chi), invert_tv(expected, known, (1.5, 1.5, 2.0)))
    assert np.allclose(nibabel.load(chi).affine, AFFINE)


def test_magnitude_and_fluid_reach_the_inversion(files, tmp_path):
    volumes, shape = files['volumes'], SHAPE
    csf = volumes['mask'] & (np.arange(shape[2]) < shape[2] // 2)
    edges = np.random.default_rng(0).random(shape, np.float32)
    given = {'csf': str(tmp_path / 'csf.nii'), 'magnitude': str(tmp_path / 'magnitude.nii')}
    for name, volume in (('csf', csf), ('magnitude', edges)):
        nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), AFFINE), given[name])
    maps = []
    for flags in ([], ['--magnitude', given['magnitude']], ['--magnitude', given['magnitude'], '--csf', given['csf']]):
        out = str(tmp_path / 'chi.nii')
        assert main(['invert', '--field', files['field'], '--mask', files['mask'], '--method', 'medi0', '-p',
                     'lambda=1e-3', '-p', 'max_iterations=2', *flags, '-o', out, '--nthreads', '1']) == 0
        maps.append(read(out))
    with use_threads(1):
        expected = invert_medi0(volumes['field'], volumes['mask'], (1.5, 1.5, 2.0), magnitude=edges, csf=csf,
                                lambda_=1e-3, max_iterations=2)
    assert np.allclose(maps[2], expected, atol=1e-6)
    assert not np.allclose(maps[0], maps[1], atol=1e-3) and not np.allclose(maps[1], maps[2], atol=1e-4)


@pytest.mark.parametrize('units, field, flags', [('Hz', 'field_hz', ['--b0', '3']),
                                                 ('rad', 'field_rad', ['--b0', '3', '--echo-times', '0.02'])])
def test_units_go_in_and_out(files, tmp_path, units, field, flags):
    ppm, other, chi_ppm, chi_other = (str(tmp_path / f'{i}.nii') for i in range(4))
    common = ['--mask', files['mask'], '--nthreads', '1']
    for name, source, more, out, chi in (('ppm', 'field', [], ppm, chi_ppm),
                                         (units, field, ['--units', units, *flags], other, chi_other)):
        assert main(['background', '--field', files[source], *common, *more, '-o', out]) == 0
        assert main(['invert', '--method', 'tikhonov', '--field', files[source], *common, *more, '-o', chi]) == 0
    scale = ppm_to_hz(1.0, center_frequency(3.0)) * (2 * np.pi * 0.02 if units == 'rad' else 1)
    assert np.allclose(read(other), read(ppm) * scale, rtol=1e-3, atol=1e-4 * scale)
    assert np.allclose(read(chi_other), read(chi_ppm), atol=1e-4), 'susceptibility is in ppm whatever the field is in'


def test_field_and_unwrap_agree_with_the_truth(files, tmp_path):
    total, unwrapped, mask = (str(tmp_path / f'{name}.nii') for name in ('total', 'unwrapped', 'mask'))
    echoes = ['--phase', files['phase'], '--phase-units', 'rad', '--magnitude', files['echo1'], files['echo2'],
              files['echo3'], '--mask', files['mask'], '--echo-times', *map(str, ECHO_TIMES), '--nthreads', '1']
    assert main(['field', *echoes, '--b0', '3', '--units', 'Hz', '-o', total, '--output-mask', mask]) == 0
    assert main(['unwrap', *echoes, '-o', unwrapped]) == 0
    inside = files['volumes']['mask']
    assert np.abs(read(total) - files['volumes']['field_hz'])[inside].max() < 0.2
    difference = (read(unwrapped) - ppm_to_radians(files['volumes']['field'], 0.02, center_frequency(3.0))[..., None]
                  * np.array(ECHO_TIMES, np.float32) / 0.02)[inside]
    assert np.abs(difference).max() < 1e-2
    assert 0.5 < (read(mask) > 0).sum() / inside.sum() <= 1


def test_r2star_and_mask(files, tmp_path, capsys):
    r2star, t2star, mask = (str(tmp_path / f'{name}.nii.gz') for name in ('r2star', 't2star', 'mask'))
    echoes = ['--magnitude', files['magnitude'], '--nthreads', '1']
    assert main(['r2star', *echoes, '--echo-times', *map(str, ECHO_TIMES), '--mask', files['mask'], '-o', r2star,
                 '--output-t2star', t2star]) == 0
    inside = files['volumes']['mask']
    assert np.allclose(read(r2star)[inside], 25, rtol=1e-2) and np.allclose(read(t2star)[inside], 0.04, rtol=1e-2)
    assert main(['r2star', *echoes, '--echo-times', '.004', '.012', '.03', '--mask', files['mask'], '-o', r2star]) == 0
    assert 'loglinear was used' in capsys.readouterr().err
    assert main(['mask', *echoes, '-p', 'fraction=.5', '-o', mask]) == 0
    assert main(['mask', *echoes, '--method', 'network', '-p', 'weights=none.safetensors', '-o', r2star]) == 1
    assert 'none.safetensors: cannot be read as weights' in capsys.readouterr().err
    found = read(mask) > 0
    assert 2 * (found & inside).sum() / (found.sum() + inside.sum()) > 0.9


def test_swi(files, tmp_path):
    outputs = [str(tmp_path / f'{i}.nii.gz') for i in range(3)]
    inputs = ['swi', '--magnitude', files['magnitude'], '--mask', files['mask'], '--nthreads', '1', '--echo-times',
              *map(str, ECHO_TIMES)]
    assert main([*inputs, '--field', files['field'], '-o', outputs[0], '--output-minip', outputs[1]]) == 0
    assert main([*inputs, '--field', files['field_hz'], '-o', outputs[2]]) == 0
    swi, minip, other = map(read, outputs)
    assert swi == pytest.approx(other, abs=1e-4), 'units do not matter'
    inside = files['volumes']['mask']
    assert np.array_equal(swi > 0, inside) and np.all(minip <= swi) and minip[inside].mean() < swi[inside].mean()


def test_separate(files, tmp_path, capsys):
    mask = files['volumes']['mask']
    volumes = {'chi': .02 * mask, 'r2star': 22 * mask, 'sub-1_R2map': 12 * mask}
    paths = {name: str(tmp_path / f'{name}.nii') for name in (*volumes, 'positive', 'negative')}
    for name, volume in volumes.items():
        nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), AFFINE), paths[name])
    inputs = ['separate', '--chi', paths['chi'], '--r2star', paths['r2star'], '--b0', '3', '-o', paths['positive'],
              '--output-negative', paths['negative']]
    assert main([*inputs, '--r2-map', paths['sub-1_R2map'], '--mask', files['mask']]) == 0
    assert 'estimate' not in capsys.readouterr().err
    assert read(paths['positive'])[mask] == pytest.approx((10 / 137 + .02) / 2)
    assert read(paths['negative'])[mask] == pytest.approx((.02 - 10 / 137) / 2)
    assert main(inputs) == 0 and 'estimate' in capsys.readouterr().err
    assert main([*inputs[:4], files['other'], *inputs[5:]]) != 0 and 'another grid' in capsys.readouterr().err


def test_nuclei_are_labelled_with_a_table_beside(files, tmp_path, monkeypatch):
    asked = {}

    def segment(chi, mask, voxel_size, **options):
        asked.update(options, voxel_size=voxel_size)
        return mask.astype(np.uint8)
    monkeypatch.setattr('qsmbids.networks.segmentation.segment', segment)
    out = tmp_path / 'x_dseg.nii.gz'
    inputs = ['segment', '--chi', files['field'], '--magnitude', files['echo1'], '--nthreads', '1', '-o', str(out)]
    assert main([*inputs, '--voxel-size', '1', '1', '3']) == 0
    assert asked['voxel_size'] == (1, 1, 3) and asked['weights'] == 'dgm' and 'r2star' not in asked
    assert asked['magnitude'].max() > 50 and np.allclose(asked['affine'], AFFINE)
    assert np.array_equal(read(out) > 0, read(files['field']) != 0) and np.allclose(nibabel.load(out).affine, AFFINE)
    rows = read_tsv(tmp_path / 'x_dseg.tsv')
    assert [(row['index'], row['name']) for row in rows[:2]] == [('1', 'Caudate_L'), ('2', 'Caudate_R')]
    assert main([*inputs, '--voxel-size', '1', '1', '3', '--mask', files['mask'], '--r2star', files['other']]) == 1
    assert main([*inputs[:-1], str(tmp_path / 'y.nii'), '--mask', files['mask']]) == 0
    assert asked['voxel_size'] == (1.5, 1.5, 2.0) and (tmp_path / 'y.tsv').exists()


def test_microbleeds_give_tables_maps_and_sidecars(files, tmp_path, capsys):
    grids = np.ogrid[tuple(map(slice, SHAPE))]
    ball = sum(((grid - middle) * step) ** 2 for grid, middle, step in zip(grids, (15, 12, 13), (1.5, 1.5, 2))) < 9
    mask = files['volumes']['mask']
    noise = np.random.default_rng(0).normal(0, .02, SHAPE)
    for name, volume in (('chi', (noise + .7 * ball) * mask), ('r2star', (20 + 90 * ball) * mask),
                         ('swi', (400 + 100 * noise) * (1 - .8 * ball) * mask)):
        nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), AFFINE), tmp_path / f'{name}.nii')
    inputs = ['microbleeds', '--mask', files['mask'], '--nthreads', '1']
    assert main([*inputs, '--chi', str(tmp_path / 'chi.nii'), '-o', str(tmp_path / 'sub-1_desc-cmb')]) == 0
    row, = [row for row in read_tsv(tmp_path / 'sub-1_desc-cmb_lesions.tsv') if row['certainty'] == 'definite']
    assert row['class'] == 'cmb' and abs(float(row['z_ras_mm']) - 26) < 2
    for suffix in ('mask', 'dseg', 'probseg'):
        assert np.allclose(nibabel.load(tmp_path / f'sub-1_desc-cmb_{suffix}.nii.gz').affine, AFFINE)
    for suffix in ('mask', 'dseg', 'probseg', 'lesions', 'counts'):
        assert 'esearch use only, not a diagnosis' in (tmp_path / f'sub-1_desc-cmb_{suffix}.json').read_text()
    assert 'confidence' not in capsys.readouterr().err
    for kind in ('r2star', 'swi'):
        assert main([*inputs, f'--{kind}', str(tmp_path / f'{kind}.nii'), '-o', str(tmp_path / kind)]) == 0
        assert 'low confidence' in capsys.readouterr().err
        row, = [row for row in read_tsv(tmp_path / f'{kind}_lesions.tsv') if row['class'] == 'cmb']
        assert (row['certainty'], row['low_confidence']) == ('possible', 'yes') and abs(float(row['z_ras_mm']) - 26) < 2
    assert main([*inputs, '-o', str(tmp_path / 'z')]) == 1 and '--chi' in capsys.readouterr().err


def test_header_can_be_overridden(files, tmp_path):
    outputs = [str(tmp_path / f'{i}.nii') for i in range(3)]
    common = ['invert', '--method', 'tikhonov', '--field', files['field'], '--mask', files['mask'], '--nthreads', '1']
    for out, flags in zip(outputs, ([], ['--b0-dir', '1', '0', '0'], ['--voxel-size', '1.5', '1.5', '2'])):
        assert main([*common, *flags, '-o', out]) == 0
    assert not np.allclose(read(outputs[0]), read(outputs[1]), atol=1e-3)
    assert np.array_equal(read(outputs[0]), read(outputs[2]))


def test_parameters_of_a_method(files, tmp_path, capsys):
    out = str(tmp_path / 'x.nii')
    common = ['invert', '--method', 'tikhonov', '--field', files['field'], '--mask', files['mask'], '-o', out]
    assert main([*common, '-p', 'lambda=1', '-p', 'regularization=gradient']) == 0
    strong = np.abs(read(out)).max()
    assert main([*common, '-p', 'lambda=0.01']) == 0 and 'chosen' not in capsys.readouterr().err
    assert strong < np.abs(read(out)).max()
    assert main(common) == 0 and 'chosen from the field' in capsys.readouterr().err
    for flags, text in ((['-p', 'colour=1'], 'no parameter colour; it has regularization, lambda'),
                        (['-p', 'lambda'], 'NAME=VALUE'), (['-p', 'lambda=-1'], 'lambda')):
        assert main([*common, *flags]) == 1
        assert text in capsys.readouterr().err


@pytest.mark.parametrize('arguments, text', [
    (['invert', '--field', 'field', '--mask', 'empty'], 'mask is empty'),
    (['invert', '--field', 'field', '--mask', 'other'], 'has the shape'),
    (['invert', '--field', 'phase', '--mask', 'mask'], 'must be 3D'),
    (['invert', '--field', '/nowhere.nii', '--mask', 'mask'], 'no such file'),
    (['invert', '--field', 'field_hz', '--mask', 'mask', '--units', 'Hz'], 'needs --b0'),
    (['invert', '--field', 'field_rad', '--mask', 'mask', '--units', 'rad', '--b0', '3'], 'needs one --echo-times'),
    (['r2star', '--magnitude', 'magnitude', '--echo-times', '.01'], '3 echoes'),
    (['r2star', '--magnitude', 'magnitude', '--echo-times', '4', '12', '20'], 'not milliseconds'),
    (['r2star', '--magnitude', 'magnitude', '--echo-times', '.01', '.01', '.02', '--mask', 'mask'], 'must increase')])
def test_mistakes_are_named_and_nothing_is_written(files, tmp_path, capsys, arguments, text):
    out = tmp_path / 'out.nii.gz'
    assert main([*(files.get(word, word) for word in arguments), '-o', str(out)]) == 1
    assert text in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_help_answers_at_once_and_lists_the_steps():
    done = subprocess.run([sys.executable, '-X', 'importtime', '-m', 'qsmbids.cli.tool', '--help'],
                          capture_output=True, text=True, check=True)
    assert all(step in done.stdout for step in ('unwrap', 'field', 'mask', 'background', 'invert', 'r2star'))
    assert 'numba' not in done.stderr
    with pytest.raises(SystemExit) as stop:
        build_parser().parse_args(['invert', '--method', 'magic'])
    assert stop.value.code == 2
