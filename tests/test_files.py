import errno

import pytest

from qsmbids.files import FileError, read_json, read_tsv, write_atomically, write_json, write_text, write_tsv


def test_a_failed_write_leaves_nothing_and_names_the_file(tmp_path):
    def full(path):
        with open(path, 'w') as file:
            file.write('half')
        raise OSError(errno.ENOSPC, 'No space left on device')

    with pytest.raises(FileError, match='map.nii.gz.*No space left.*Make room'):
        write_atomically(tmp_path / 'map.nii.gz', full)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('old')

    def fail(temporary):
        raise OSError(errno.EIO, 'broken')

    with pytest.raises(FileError):
        write_atomically(path, fail)
    assert path.read_text() == 'old'


def test_text_is_rewritten_only_when_it_differs(tmp_path):
    path = tmp_path / 'a.json'
    write_json(path, {'a': 'ü'})
    before = path.stat().st_mtime_ns
    write_json(path, {'a': 'ü'})
    assert path.stat().st_mtime_ns == before
    write_text(path, 'x')
    assert path.read_text() == 'x'


def test_tables(tmp_path):
    path = tmp_path / 't.tsv'
    write_tsv(path, [{'a': 1.23456789, 'b': 'x\ty\nz'}, {'a': None}], ['a', 'b'])
    assert read_tsv(path) == [{'a': '1.23457', 'b': 'x y z'}, {'a': 'n/a', 'b': 'n/a'}]


@pytest.mark.parametrize('content', [b'', b'\xff\xfe'])
def test_a_damaged_table_names_the_file(tmp_path, content):
    (tmp_path / 'x.tsv').write_bytes(content)
    with pytest.raises(FileError, match='x.tsv.*table'):
        read_tsv(tmp_path / 'x.tsv')


def test_damaged_json_names_the_file(tmp_path):
    path = tmp_path / 'x.json'
    path.write_text('{')
    with pytest.raises(FileError, match='x.json'):
        read_json(path)
