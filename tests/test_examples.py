"""The example gallery runs, and what it shows is there."""

import runpy
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / 'examples'


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Return a function that runs an example and returns what it printed."""
    def run(name, *arguments):
        monkeypatch.setattr(sys, 'argv', [name, str(tmp_path), *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / f'{name}.py'), run_name='__main__')
        return capsys.readouterr().out
    return run


def picture_is_there(path):
    return path.read_bytes().startswith(b'\x89PNG') and path.stat().st_size > 5000


def test_first_map(run, tmp_path):
    said = run('first_map')
    assert 'zero: wholebrain' in said and '4096 levels from 0' in said
    assert picture_is_there(tmp_path / 'first_map.png')
    chi = nibabel.load(tmp_path / 'chi.nii.gz').get_fdata()
    assert np.isfinite(chi).all() and .005 < chi[chi != 0].std() < .05


def test_own_mask(run, tmp_path):
    rows = {line[:22].strip(): float(line.split()[-1]) for line in run('own_mask').splitlines()[1:4]}
    # What the example is there to show.
    assert rows['mine, margin of 3 mm'] < rows['mine, no margin']
    assert (tmp_path / 'own_mask/masks/sub-01/anat/sub-01_desc-brain_mask.nii.gz').is_file()
    assert picture_is_there(tmp_path / 'own_mask.png')


def test_compare_methods(run, tmp_path):
    rows = {line.split()[0]: line.split() for line in run('compare_methods', 'tv', 'tkd').splitlines()[1:]}
    assert float(rows['tv'][1]) < float(rows['tkd'][1])
    assert picture_is_there(tmp_path / 'compare_methods.png')


def test_train(run, tmp_path, monkeypatch):
    from qsmbids.training import loop

    class Scores:
        """Stands in for whole heads, which take a minute."""

        def __init__(self, anatomies):
            pass

        def score(self, network):
            return {'nrmse': 90., 'score': 90.}
    monkeypatch.setattr(loop, 'VALIDATION', {'chi': Scores})
    said = run('train', 2)
    assert '2 of 2 steps' in said and 'pocsnet2   NRMSE' in said
    assert (tmp_path / 'train' / 'run' / 'best.safetensors').is_file()


@pytest.fixture
def table(tmp_path):
    """A group table of 16 participants, whose patients have 40 ppb more in the nigra; some values are missing."""
    rng = np.random.default_rng(0)
    names = [f'chi_mean_{nucleus}_{side}' for nucleus in ('Putamen', 'Pallidum', 'RedNucleus', 'SubstantiaNigra')
             for side in 'LR']
    lines = ['\t'.join(['participant', 'state', 'group', 'age', *names])]
    for number in range(16):
        patient = number % 2
        values = .08 + .01 * rng.standard_normal(8) + .04 * patient * np.array([0] * 6 + [1] * 2)
        cells = [f'{value:.5f}' for value in values]
        cells[0] = 'n/a' if number < 13 else cells[0]
        lines.append('\t'.join([f'sub-{number:02d}', 'complete', ('control', 'parkinson')[patient],
                                str(50 + number), *cells]))
    path = tmp_path / 'group_subcortical_wide.tsv'
    path.write_text('\n'.join(lines) + '\n')
    return path


def test_the_study_finds_what_the_table_holds(table, tmp_path, capsys):
    study = runpy.run_path(str(EXAMPLES / 'cohort_statistics.py'))['study']
    study(table, tmp_path / 'picture.png', shuffles=200)
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()[3:]}
    assert float(rows['SubstantiaNigra'][4]) == pytest.approx(40, abs=15) and float(rows['SubstantiaNigra'][6]) < .05
    assert float(rows['RedNucleus'][6]) > .05 and rows['Putamen'][2:] == ['too', 'few', 'values']
    assert picture_is_there(tmp_path / 'picture.png')


@pytest.mark.slow
def test_cohort_statistics(run, tmp_path):
    said = run('cohort_statistics', 2)
    assert '2 participants, 1 patients' in said
    assert (tmp_path / 'cohort/out/group_subcortical_wide.tsv').is_file()
