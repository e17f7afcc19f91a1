from types import SimpleNamespace

import pytest

from qsmbids.cli.summary import summarise


def row(label, state='complete', reason='', crashfile=''):
    return {'participant': label, 'acquisition': label, 'state': state, 'reason': reason, 'crashfile': crashfile}


@pytest.fixture
def config(tmp_path):
    return SimpleNamespace(bids_dir='/data/raw', output_dir=tmp_path)


def test_it_says_what_was_made_and_where_and_what_comes_next(config):
    (config.output_dir / 'sub-1.html').touch()
    text = summarise(config, [row('sub-1')], ['sub-1/anat/sub-1_desc-tv_Chimap.nii.gz',
                     'sub-1/anat/sub-1_desc-rts_Chimap.nii.gz', 'sub-1/anat/sub-1_desc-brain_mask.nii.gz',
                     'sub-1/anat/sub-1_S0map.nii.gz'], 125, 'x')
    first, made, pages, *rest = text.splitlines()
    assert first == f'qsmbids: 1 of 1 acquisitions complete in {config.output_dir}, after 2:05'
    assert made == '  made: 2 susceptibility maps, 1 mask, 4 files in all'
    assert pages == f'  look at: {config.output_dir}/sub-1.html'
    assert 'status-x.tsv' in rest[0] and rest[-1].endswith(f'qsmbids /data/raw {config.output_dir} group')


def test_it_says_what_failed_and_why(config):
    text = summarise(config, [row('sub-1', 'failed', 'no phase', '/crash/1.txt'),
                              row('sub-2', 'unusable', 'no EchoTime') | {'acquisition': 'n/a'}], [], 1, 'x')
    assert '  sub-1: failed: no phase (/crash/1.txt)' in text and '  sub-2: unusable: no EchoTime' in text
    assert 'made' not in text and 'group' not in text and '0 of 2' in text


def test_a_large_cohort_does_not_fill_the_screen(config):
    for number in range(200):
        (config.output_dir / f'sub-{number}.html').touch()
    text = summarise(config, [row(f'sub-{n}', 'failed' if n % 2 else 'complete', 'broken') for n in range(200)], [], 1,
                     'x')
    assert len(text.splitlines()) < 30 and 'and 80 more' in text and '(200 pages)' in text
