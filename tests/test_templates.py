import importlib.util
import sys
from types import ModuleType

import pytest

from qsmbids.files import FileError
from qsmbids.templates import Template, check_engine, find_atlas, find_space


def put(folder, *names, size=2000):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b'x' * size)
    return folder


def test_a_folder_of_ones_own(tmp_path):
    folder = put(tmp_path / 'mine', 'tpl_T1w.nii.gz', 'tpl_dseg.nii.gz', 'tpl_dseg.tsv')
    assert find_atlas(str(folder)) == Template('mine', str(folder / 'tpl_T1w.nii.gz'), 'T1w',
                                               str(folder / 'tpl_dseg.nii.gz'), str(folder / 'tpl_dseg.tsv'))
    folder = put(tmp_path / 'musus', 'hybrid.nii.gz', 'T1w.nii.gz', 'x_dseg.nii.gz')
    found = find_atlas(str(folder))
    assert (found.contrast, found.table) == ('hybrid', None)


def test_what_a_folder_lacks_is_named(tmp_path):
    with pytest.raises(FileError, match='one file .*dseg.* there are 0'):
        find_atlas(str(put(tmp_path / 'a', 'tpl_T1w.nii.gz')))
    with pytest.raises(FileError, match='has no template'):
        find_atlas(str(put(tmp_path / 'b', 'tpl_dseg.nii.gz')))
    with pytest.raises(FileError, match='no such folder'):
        find_atlas(str(tmp_path / 'c'))


def test_the_engine(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(FileError, match=r"pip install 'qsmbids\[atlas\]'"):
        check_engine()


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Stand in for the client: files by their entities, an error for those that there are not."""
    api, package, files = ModuleType('templateflow.api'), ModuleType('templateflow'), {}

    def get(template, raise_empty=False, **entities):
        assert raise_empty
        key = (template, entities.get('suffix'), entities.get('atlas'), entities.get('extension'))
        if key not in files:
            raise ConnectionError('no route to host')
        return files[key]
    api.get = get
    package.api = api
    monkeypatch.setitem(sys.modules, 'templateflow', package)
    monkeypatch.setitem(sys.modules, 'templateflow.api', api)
    return files


def test_templateflow(client, tmp_path):
    put(tmp_path, 'T1w.nii.gz', 'aseg.nii.gz', 'massp.nii.gz', 'massp.tsv')
    client['MNI', 'T1w', None, '.nii.gz'] = tmp_path / 'T1w.nii.gz'
    client['MNI', 'dseg', None, '.nii.gz'] = [tmp_path / 'aseg.nii.gz']
    client['MNI', 'dseg', 'MASSP20', '.nii.gz'] = tmp_path / 'massp.nii.gz'
    client['MNI', 'dseg', 'MASSP20', '.tsv'] = tmp_path / 'massp.tsv'
    assert find_atlas('MNI') == Template('MNI', str(tmp_path / 'T1w.nii.gz'), 'T1w', str(tmp_path / 'aseg.nii.gz'))
    assert find_atlas('MNI:MASSP20').table == str(tmp_path / 'massp.tsv')
    assert find_space('MNI').image == str(tmp_path / 'T1w.nii.gz')


def test_what_templateflow_lacks_is_named_with_the_way_to_get_it(client, tmp_path):
    with pytest.raises(FileError, match=r"suffix='T1w'.*no route to host.*api.get\('MNI', .*TEMPLATEFLOW_HOME"):
        find_space('MNI')
    # The index of its archive holds empty files in place of what was not fetched.
    client['MNI', 'T1w', None, '.nii.gz'] = put(tmp_path, 'T1w.nii.gz', size=0) / 'T1w.nii.gz'
    with pytest.raises(FileError, match='T1w.nii.gz is missing: run'):
        find_space('MNI')


def test_no_client(monkeypatch):
    monkeypatch.setitem(sys.modules, 'templateflow', None)
    with pytest.raises(FileError, match=r'qsmbids\[atlas\]'):
        find_atlas('MNI')
