"""``qsmbids-evaluate``: what it writes, how it ranks, and what it says when it cannot."""

import json
import shutil
import subprocess
import sys
import time
from functools import partial
from html.parser import HTMLParser

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from qsmbids.cli.evaluate import main, rank
from qsmbids.files import read_tsv, write_tsv
from qsmbids.simulation.bids import write_truth
from qsmbids.simulation.head import digital_head
from qsmbids.simulation.lesions import Body, Lesion
from qsmbids.simulation.signal import Sequence, simulate

SHAPE = (20, 24, 18)
AFFINE = np.diag((-2.0, 2, 2.5, 1))
KEYS = ('acquisition', 'quantity', 'method', 'estimate', 'problem')
NAMES = ('background', 'caudate', 'left-Pallidum', 'Red Nucleus', '<b>&$cortex', 'calcification')


def save(path, volume, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.asarray(volume), affine), path)
    return str(path)


@pytest.fixture
def paths(tmp_path):
    """A truth of five regions with tissue outside of the mask, and estimates of growing error."""
    rng = np.random.default_rng(0)
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:-2, 2:-2, 2:-2] = 1
    labels = np.zeros(SHAPE, np.int16)
    for index in range(1, 6):
        labels[4:-4, 4 * index - 1:4 * index + 2, 5:-5] = index
    truth = np.array((0, 0.05, 0.13, 0.1, 0.02, -0.5))[labels] + 0.005 * rng.normal(size=SHAPE)
    chi = np.where(mask, truth, 9.2).astype(np.float32)
    found = {'truth': save(tmp_path / 'truth.nii.gz', chi), 'mask': save(tmp_path / 'mask.nii.gz', mask),
             'labels': save(tmp_path / 'labels.nii.gz', labels)}
    for name, error in (('good', 0.01), ('bad', 0.06)):
        found[name] = save(tmp_path / f'{name}.nii.gz',
                           ((chi + error * rng.normal(size=SHAPE)) * mask + 0.2 * mask).astype(np.float32))
    table = tmp_path / 'labels.tsv'
    table.write_text('index\tname\n' + ''.join(f'{i}\t{name}\n' for i, name in enumerate(NAMES)))
    return found | {'table': str(table), 'out': str(tmp_path / 'out' / 'scores')}


def run(paths, *estimates, regions=True, flags=()):
    labels = ('--labels', paths['labels'], '--label-table', paths['table']) if regions else ()
    return main([paths['truth'], *estimates, '--mask', paths['mask'], *labels, '-o', paths['out'], *flags])


def failure(capsys, arguments):
    """Return what is said when a command fails."""
    assert main(arguments) == 1
    return capsys.readouterr().err


class Page(HTMLParser):
    """Collects the tags, the text and the sources of pictures of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.sources = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.sources += [value for name, value in attributes if name in ('src', 'href')]

    def handle_data(self, data):
        self.text.append(data)


def test_help_answers_at_once():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, '-m', 'qsmbids.cli.evaluate', '--help'], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5


def test_tables_of_two_maps(paths, capsys):
    assert run(paths, paths['bad'], paths['good']) == 0
    rows = {row['method']: row for row in read_tsv(paths['out'] + '.tsv')}
    assert list(rows) == ['bad', 'good'] and rows['good']['mean_rank'] == '1' and rows['bad']['mean_rank'] == '2'
    good, bad = ({name: float(value) for name, value in rows[method].items()
                  if name not in KEYS} for method in ('good', 'bad'))
    assert good['coverage'] == 1 and good['nrmse'] < bad['nrmse'] and good['xsim'] > bad['xsim'] > 0
    assert good['deep_grey_slope_error'] < 0.05 and good['calcification_moment_deviation'] < 5
    assert good['lower_limit'] < good['bias'] < good['upper_limit']
    content = json.loads(open(paths['out'] + '.json').read())
    assert [row['method'] for row in content['ranking']] == ['good', 'bad'] and content['warnings'] == []
    assert set(rows['good']) - {*KEYS, 'mean_rank'} <= set(content['columns'])
    regions = [row for row in read_tsv(paths['out'] + '_regions.tsv') if row['method'] == 'good']
    assert [row['name'] for row in regions] == list(NAMES[1:])
    assert float(regions[1]['estimate']) == pytest.approx(float(regions[1]['truth']), abs=0.005)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith('method') and printed[1].startswith('good')


def test_the_page_is_whole_and_escaped(paths):
    assert run(paths, paths['good']) == 0
    text = open(paths['out'] + '.html', encoding='utf-8').read()
    page = Page(text)
    # The truth, the estimate, the difference and the regions.
    assert len(page.sources) == 4 and all(source.startswith('data:image/') for source in page.sources)
    assert 'script' not in page.tags and 'b' not in page.tags and NAMES[4] in page.text
    assert all(name in page.text for name in ('NRMSE', 'caudate', 'Result'))


def test_a_perfect_map_in_ppb(paths, tmp_path):
    chi = nibabel.load(paths['truth']).get_fdata() * nibabel.load(paths['mask']).get_fdata()
    ppb = save(tmp_path / 'ppb.nii', (1000 * chi).astype(np.float32))
    assert run(paths, ppb, flags=('--units', 'ppb')) == 0
    row, = read_tsv(paths['out'] + '.tsv')
    assert float(row['nrmse']) < 1e-3 and float(row['slope']) == pytest.approx(1) and float(row['xsim']) > 0.9999


def test_what_looks_wrong_is_said(paths, tmp_path, capsys):
    chi = nibabel.load(paths['truth']).get_fdata() * nibabel.load(paths['mask']).get_fdata()
    wrong = save(tmp_path / 'wrong.nii', (1000 * chi).astype(np.float32))
    holes = np.where(chi > 0.1, np.nan, -chi)
    assert run(paths, wrong, save(tmp_path / 'holes.nii', holes.astype(np.float32))) == 0
    said = capsys.readouterr().err
    assert '--units ppb' in said and 'sign may be reversed' in said and 'not finite' in said


def test_segmentation(paths, tmp_path):
    labels = nibabel.load(paths['labels']).get_fdata()
    moved = np.where(labels == 2, 0, labels)
    moved[:, 11:14] = np.roll(labels, 1, axis=0)[:, 11:14]
    found = save(tmp_path / 'found.nii.gz', moved.astype(np.int16))
    assert run(paths, paths['good'], flags=('--estimate-labels', found)) == 0
    rows = {row['name']: row for row in read_tsv(paths['out'] + '_regions.tsv')}
    assert rows['caudate']['dice'] == '1' and float(rows['caudate']['hausdorff95']) == 0
    assert rows['left-Pallidum']['dice'] == '0' and rows['left-Pallidum']['hausdorff95'] == 'n/a'
    assert float(rows['Red Nucleus']['dice']) == pytest.approx(11 / 12, rel=1e-4)


def test_without_mask_and_regions(paths, tmp_path, capsys):
    chi = nibabel.load(paths['truth']).get_fdata() * nibabel.load(paths['mask']).get_fdata()
    truth = save(tmp_path / 'masked.nii.gz', chi.astype(np.float32))
    assert main([truth, paths['good'], '-o', paths['out']]) == 0
    assert 'not zero' in capsys.readouterr().err
    row, = read_tsv(paths['out'] + '.tsv')
    assert row['deep_grey_slope_error'] == 'n/a' and row['bias'] == 'n/a'
    assert 'Give --mask' in failure(capsys, [paths['truth'], paths['good'], '-o', paths['out']])


@pytest.mark.parametrize('flags, text', [
    ([], 'required: -o'), (['-o', 'x', '--units', 'T'], 'T'), (['-o', 'x', '--label-table', 'y'], 'needs --labels'),
    (['-o', 'x', '--estimate-labels', 'y'], 'needs --labels')])
def test_wrong_command_lines(capsys, paths, flags, text):
    with pytest.raises(SystemExit) as stop:
        main([paths['truth'], paths['good'], *flags])
    assert stop.value.code == 2 and text in capsys.readouterr().err


def test_files_and_folders_do_not_mix(capsys, paths, tmp_path):
    for arguments, text in (([str(tmp_path), paths['good']], 'all of them folders'),
                            ([str(tmp_path), str(tmp_path), '--mask', paths['mask']], '--mask')):
        with pytest.raises(SystemExit) as stop:
            main([*arguments, '-o', paths['out']])
        assert stop.value.code == 2 and text in capsys.readouterr().err


def test_files_that_cannot_be_used(capsys, paths, tmp_path):
    chi = nibabel.load(paths['truth']).get_fdata().astype(np.float32)
    cases = {'shape': (save(tmp_path / 'shape.nii', chi[1:]), 'another grid than'),
             'turned': (save(tmp_path / 'turned.nii', chi, np.diag((2.0, 2, 2.5, 1))), 'the affines differ'),
             '4d': (save(tmp_path / '4d.nii', np.stack([chi, chi], -1)), 'one 3D volume'),
             'zero': (save(tmp_path / 'zero.nii', 0 * chi), 'zero or not finite everywhere'),
             'gone': (str(tmp_path / 'gone.nii'), 'no such file')}
    assert run(paths, paths['good'], *(path for path, _ in cases.values())) == 1
    said = capsys.readouterr().err
    for path, text in cases.values():
        assert any(path in line and text in line for line in said.splitlines())
    rows = {row['method']: row for row in read_tsv(paths['out'] + '.tsv')}
    assert rows['good']['problem'] == 'n/a' and 'grid' in rows['shape']['problem'] and rows['shape']['nrmse'] == 'n/a'
    text = open(paths['out'] + '.html').read()
    assert text.count('another grid') and '0 of 1' in text


def test_a_truth_that_cannot_be_used(capsys, paths, tmp_path):
    chi = nibabel.load(paths['truth']).get_fdata().astype(np.float32)
    mask = nibabel.load(paths['mask']).get_fdata()
    good = (paths['good'], '-o', paths['out'], '--mask', paths['mask'])
    flat, holes = save(tmp_path / 'flat.nii', 0 * chi), save(tmp_path / 'holes.nii', np.where(chi > 0.1, np.nan, chi))
    assert 'constant in the mask' in failure(capsys, [flat, *good])
    assert f'{holes}: ' in failure(capsys, [holes, *good])
    empty = save(tmp_path / 'empty.nii', (0 * mask).astype(np.uint8))
    assert f'{empty}: the mask is empty' in failure(capsys, [paths['truth'], *good[:-1], empty])
    other = save(tmp_path / 'other.nii', mask[:, 1:].astype(np.uint8))
    assert 'another grid' in failure(capsys, [paths['truth'], *good[:-1], other])
    (tmp_path / 'bad.tsv').write_text('label\tname\n1\tx\n')
    for table, why in (('bad.tsv', 'columns index'), ('gone.tsv', 'cannot be read as a table')):
        said = failure(capsys, [paths['truth'], *good, '--labels', paths['labels'], '--label-table',
                                str(tmp_path / table)])
        assert table in said and why in said
    assert 'given twice' in failure(capsys, [paths['truth'], paths['good'], *good])


@pytest.fixture(scope='module')
def truths(tmp_path_factory):
    """The truth of two simulated acquisitions as the simulator writes it, and their scans by name."""
    root, scans = tmp_path_factory.mktemp('data'), {}
    for session in ('1', '2'):
        affine = np.diag((10.0, 11, 12, 1))
        affine[:3, 3] = np.array((0, -17, 12)) - np.array((10, 11, 12)) * (np.array((16, 18, 14)) - 1) / 2
        scan = simulate(partial(digital_head, seed=2), Sequence((16, 18, 14), affine, (0.005,), supersampling=1),
                        seed=int(session), surround_mm=40)
        write_truth(root, scan, {'sub': '01', 'ses': session})
        scans[f'sub-01_ses-{session}'] = scan
    return root / 'derivatives' / 'truth', scans


def write_maps(folder, scans, width, desc):
    for name, scan in scans.items():
        smooth = ndimage.gaussian_filter(np.where(scan.mask, scan.chi, 0), width) * scan.mask
        session = name.split('_')[1]
        save(folder / 'sub-01' / session / 'anat' / f'{name}{desc}_Chimap.nii.gz', smooth, scan.sequence.affine)


def test_every_map_of_a_derivative(truths, tmp_path, capsys):
    truth, scans = truths
    write_maps(tmp_path / 'mine', scans, 0.8, '_desc-soft')
    write_maps(tmp_path / 'mine', scans, 0.4, '_desc-sharp')
    write_maps(tmp_path / 'mine', {name: scan for name, scan in scans.items() if name.endswith('1')}, 0.3, '_desc-once')
    write_maps(tmp_path / 'mine', {'sub-01_ses-9': scans['sub-01_ses-1']}, 0.3, '_desc-sharp')
    out = str(tmp_path / 'scores')
    assert main([str(truth), str(tmp_path / 'mine'), '-o', out]) == 1
    said = capsys.readouterr().err
    assert 'sub-01_ses-2: there is no map by once' in said and 'no truth of sub-01_ses-9' in said
    content = json.loads(open(out + '.json').read())
    assert [(row['method'], row['maps'], row['acquisitions']) for row in content['ranking']] == [
        ('sharp', 2, 2), ('once', 1, 2), ('soft', 2, 2)]
    assert content['ranking'][0]['deep_grey_slope_error'] < content['ranking'][2]['deep_grey_slope_error']
    names = {row['name'] for row in read_tsv(out + '_regions.tsv')}
    assert {'caudate', 'white_matter'} <= names and 'air' not in names
    assert len(read_tsv(out + '.tsv')) == 6


def test_several_derivatives(truths, tmp_path, capsys):
    truth, scans = truths
    write_maps(tmp_path / 'a', scans, 0.8, '_desc-tv')
    write_maps(tmp_path / 'b', scans, 0.4, '')
    out = str(tmp_path / 'scores')
    assert main([str(truth), str(tmp_path / 'a'), str(tmp_path / 'b'), '-o', out]) == 0
    content = json.loads(open(out + '.json').read())
    assert [row['method'] for row in content['ranking']] == [f'{tmp_path / "b"}: b', f'{tmp_path / "a"}: tv']
    # The truth itself is no estimate.
    assert main([str(truth), str(truth.parents[1]), '-o', out]) == 1
    assert 'holds no *_Chimap.nii.gz' in capsys.readouterr().err


def write_signs(folder, scans, method):
    """Write perfect maps of the sources of either sign."""
    for name, scan in scans.items():
        for sign, volume in (('positive', scan.chi_positive), ('negative', scan.chi - scan.chi_positive)):
            save(folder / 'sub-01' / f'{name}_desc-{method}{sign}_Chimap.nii.gz',
                 np.where(scan.mask, volume, 0).astype(np.float32), scan.sequence.affine)


def test_sources_of_one_sign_are_a_quantity_of_their_own(truths, tmp_path):
    truth, scans = truths
    write_maps(tmp_path / 'mine', scans, 0.8, '_desc-tv')
    write_maps(tmp_path / 'mine', scans, 0.4, '_desc-rts')
    write_signs(tmp_path / 'mine', scans, 'tv')
    out = str(tmp_path / 'scores')
    assert main([str(truth), str(tmp_path / 'mine'), '-o', out]) == 0
    content = json.loads(open(out + '.json').read())
    assert [(row['quantity'], row['method'], row['maps'], row['mean_rank'] is None) for row in content['ranking']] == [
        ('chi', 'rts', 2, False), ('chi', 'tv', 2, False), ('chi+', 'tv', 2, True), ('chi-', 'tv', 2, True)]
    assert all(row['nrmse'] < 0.1 for row in content['ranking'][2:]) and content['ranking'][1]['nrmse'] > 10
    rows = read_tsv(out + '.tsv')
    assert len(rows) == 8 and all(('positive' in row['estimate']) == (row['quantity'] == 'chi+') for row in rows)
    assert 'chi+' in Page(open(out + '.html').read()).text
    # Of files alike, where the truth of a sign lies beside the other.
    folder, name = truth / 'sub-01' / 'ses-1' / 'anat', 'sub-01_ses-1'
    maps = [next((tmp_path / 'mine').rglob(f'{name}_desc-{desc}_Chimap.nii.gz')) for desc in ('tv', 'tvpositive')]
    arguments = ['--mask', folder / f'{name}_desc-brain_mask.nii.gz', '-o', out]
    assert main(list(map(str, [folder / f'{name}_desc-truth_Chimap.nii.gz', *maps, *arguments]))) == 0
    assert [row['quantity'] for row in read_tsv(out + '.tsv')] == ['chi', 'chi+']
    assert float(read_tsv(out + '.tsv')[1]['nrmse']) < 0.1
    assert main(list(map(str, [folder / f'{name}_desc-positive_Chimap.nii.gz', *maps, *arguments]))) == 0
    assert [(row['quantity'], float(row['nrmse']) < 0.1) for row in read_tsv(out + '.tsv')] == [
        ('chi+', False), ('chi+', True)]


def test_sources_of_one_sign_without_their_truth(truths, paths, tmp_path, capsys):
    source, scans = truths
    truth = tmp_path / 'truth'
    shutil.copytree(source, truth)
    for path in truth.rglob('*_desc-negative_Chimap.nii.gz'):
        path.unlink()
    write_maps(tmp_path / 'mine', scans, 0.4, '_desc-tv')
    write_signs(tmp_path / 'mine', scans, 'tv')
    assert main([str(truth), str(tmp_path / 'mine'), '-o', paths['out']]) == 0
    assert 'no truth of chi- of sub-01_ses-1' in capsys.readouterr().err
    assert {row['quantity'] for row in read_tsv(paths['out'] + '.tsv')} == {'chi', 'chi+'}
    chi = nibabel.load(paths['truth']).get_fdata().astype(np.float32)
    positive = save(tmp_path / 'sub-1_desc-positive_Chimap.nii', chi)
    assert 'no truth of them' in failure(capsys, [paths['truth'], positive, '--mask', paths['mask'], '-o',
                                                  paths['out']])


def test_folders_that_do_not_fit(truths, tmp_path, capsys):
    truth, scans = truths
    out = ['-o', str(tmp_path / 'scores')]
    (tmp_path / 'empty').mkdir()
    assert 'desc-truth_Chimap' in failure(capsys, [str(tmp_path / 'empty'), str(truth), *out])
    write_maps(tmp_path / 'other', {'sub-02_ses-1': scans['sub-01_ses-1']}, 0.4, '_desc-x')
    assert 'must agree' in failure(capsys, [str(truth), str(tmp_path / 'other'), *out])


def write_lesions(folder, name, desc, column, rows, kind='cmb'):
    text = '\t'.join(('x_ras_mm', 'y_ras_mm', 'z_ras_mm', 'class', column)) + '\n'
    text += ''.join(f'{x}\t0\t0\t{kind}\t{value}\n' for x, value in rows)
    (folder / f'{name}_label-microbleed_desc-{desc}_lesions.tsv').write_text(text)


def test_lesions(truths, tmp_path, capsys):
    source, scans = truths
    truth, mine = tmp_path / 'truth', tmp_path / 'mine'
    shutil.copytree(source, truth)
    write_maps(mine, scans, 0.4, '_desc-tv')
    first, second = scans
    write_lesions(truth, first, 'truth', 'diameter_mm', [(0, 4), (20, 10)])
    write_lesions(truth, second, 'truth', 'diameter_mm', [])
    write_lesions(mine, first, 'rules', 'probability', [(2, 0.9), (24.5, 0.5), (60, 0.7)])
    write_lesions(mine, second, 'rules', 'probability', [])
    write_lesions(mine, first, 'half', 'probability', [(0, 0.9)], kind='vessel')
    assert main([str(truth), str(mine), '-o', str(tmp_path / 'scores')]) == 0
    assert f'no list of lesions of {second}' in capsys.readouterr().err
    rows = {(row['method'], row['false_positives']): row for row in read_tsv(tmp_path / 'scores_froc.tsv')}
    assert rows['rules', '0.25'] == {'method': 'rules', 'heads': '2', 'lesions': '2', 'false_positives': '0.25',
                                     'sensitivity': '0.5', 'lower': '0.5', 'upper': '0.5', 'threshold': '0.9'}
    assert rows['rules', '0.5']['sensitivity'] == '1' and rows['half', '8']['sensitivity'] == '0'
    assert 'False positives per head' in (tmp_path / 'scores.html').read_text()
    confusion = [tuple(row.values()) for row in read_tsv(tmp_path / 'scores_confusion.tsv')]
    assert confusion == [('half', 'cmb', 'vessel', '1'), ('half', 'cmb', 'n/a', '1'), ('rules', 'cmb', 'cmb', '2'),
                         ('rules', 'n/a', 'cmb', '1')]
    write_lesions(mine, first, 'rules', 'p', [(2, 0.9)])
    said = failure(capsys, [str(truth), str(mine), '-o', str(tmp_path / 'scores')])
    assert f'{first}_label-microbleed_desc-rules_lesions.tsv' in said and 'probability' in said


def test_the_true_lesions_are_found_by_themselves(truths, tmp_path):
    source, scans = truths
    truth, mine = tmp_path / 'truth', tmp_path / 'mine'
    shutil.copytree(source, truth)
    write_maps(mine, scans, 0.4, '_desc-tv')
    kinds = ('cmb', 'cmb', 'calcification', 'vessel')
    for number, (name, scan) in enumerate(scans.items()):
        lesions = [Lesion(kind, (Body(np.array([12. * i, 20. * number, 30]), np.eye(3), (2., 2, 2)),), .5)
                   for i, kind in enumerate(kinds)]
        write_truth(tmp_path / 'made', scan, {'sub': name[4:6], 'ses': name[-1]}, lesions)
    for path in sorted((tmp_path / 'made').rglob('*_lesions.tsv')):
        shutil.copy(path, truth / path.name)
        rows = read_tsv(path)
        write_tsv(mine / path.name.replace('desc-truth', 'desc-mine'), [row | {'probability': 0.9} for row in rows],
                  [*rows[0], 'probability'])
        # One microbleed is missed, and a calcification taken for one.
        taken = [row | {'class': 'cmb', 'probability': 0.9} for row in rows[1:3]]
        write_tsv(mine / path.name.replace('desc-truth', 'desc-other'), taken, [*rows[0], 'probability'])
    assert main([str(truth), str(mine), '-o', str(tmp_path / 'scores')]) == 0
    rows = read_tsv(tmp_path / 'scores_froc.tsv')
    assert all(row['sensitivity'] == '1' and row['lesions'] == '4' for row in rows if row['method'] == 'mine')
    assert [row['sensitivity'] for row in rows if row['method'] == 'other'][-1] == '0.5'
    content = json.loads((tmp_path / 'scores.json').read_text())
    counts = {(row['method'], row['truth'], row['found']): row['count'] for row in content['confusion']}
    assert counts == {('mine', 'cmb', 'cmb'): 4, ('mine', 'calcification', 'calcification'): 2,
                      ('mine', 'vessel', 'vessel'): 2, ('other', 'cmb', 'cmb'): 2, ('other', 'cmb', None): 2,
                      ('other', 'calcification', 'cmb'): 2, ('other', 'vessel', None): 2}


def test_ranks_by_hand():
    def entry(acquisition, method, nrmse, xsim):
        return {'acquisition': acquisition, 'quantity': 'chi', 'method': method, 'regions': [],
                'problem': None if nrmse else 'gone',
                'metrics': {'nrmse': nrmse, 'xsim': xsim, 'hfen': None} if nrmse else {}}
    rows = rank([entry('1', 'a', 50, 0.5), entry('1', 'b', 40, 0.6), entry('1', 'c', 50, 0.7),
                 entry('2', 'a', 30, 0.9), entry('2', 'b', 20, 0.8), entry('2', 'c', None, None)])
    assert [(row['method'], row['mean_rank'], row['maps']) for row in rows] == [
        ('b', (1 + 2 + 1 + 2) / 4, 2), ('a', (2.5 + 3 + 2 + 1) / 4, 2), ('c', (2.5 + 1 + 3 + 3) / 4, 1)]
    assert rows[0]['nrmse'] == 30 and rows[2]['nrmse'] == 50 and rows[0]['hfen'] is None
