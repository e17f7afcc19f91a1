"""Headers and sidecars that nobody thought of: whatever they hold, the readers answer or name the file."""

import gzip
import json
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qsmbids import bids
from qsmbids.files import FileError, read_json, read_tsv, write_json, write_tsv
from qsmbids.headers import check_voxels, read_voxels

QUICK = settings(max_examples=60, deadline=None, derandomize=True, database=None,
                 suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXT = st.text(max_size=8)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8)
FIELDS = ('EchoTime', 'MagneticFieldStrength', 'ImagingFrequency', 'Units', 'Manufacturer', 'PartialFourier',
          'PartialFourierDirection', 'MRAcquisitionType')


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A sound image, as bytes before compression."""
    path = tmp_path_factory.mktemp('fuzz') / 'a.nii'
    nibabel.save(nibabel.Nifti1Image(np.arange(120, dtype=np.int16).reshape(4, 5, 6), np.diag([1., 1, 2, 1])), path)
    return path.read_bytes()


@QUICK
@given(changes=st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), max_size=6), cut=st.integers(0, 592),
       zipped=st.booleans())
def test_a_damaged_header_is_read_or_named(whole, tmp_path, changes, cut, zipped):
    content = bytearray(whole)
    for place, value in changes:
        content[place] = value
    content = bytes(content)[:cut] if cut % 3 == 0 else bytes(content)
    path = tmp_path / ('x.nii.gz' if zipped else 'x.nii')
    path.write_bytes(gzip.compress(content) if zipped else content)
    try:
        check_voxels(path)
        voxels = read_voxels(path)
    except FileError as error:
        assert str(path) in str(error) and '\n' not in str(error)
    else:
        assert voxels.nbytes < 1e7


@QUICK
@given(content=st.binary(max_size=400))
def test_any_bytes_as_an_image_are_named(tmp_path, content):
    for name in ('x.nii', 'x.nii.gz'):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileError, match=name):
            check_voxels(tmp_path / name)


def parts(first, second):
    """Return a magnitude and a phase of two echoes, as pybids gives them, with two sidecars."""
    def one(part, echo, content):
        entities = {'echo': echo, 'suffix': 'MEGRE'}
        return SimpleNamespace(filename=f'sub-1_echo-{echo}_part-{part}_MEGRE.nii', path='/nowhere/x',
                               get_metadata=lambda: dict(content), get_entities=lambda: entities)
    return {part: [one(part, 1, first), one(part, 2, second)] for part in ('mag', 'phase')}


@QUICK
@given(first=st.dictionaries(st.sampled_from(FIELDS), JSON), second=st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_any_sidecar_is_understood_or_named(first, second):
    for check in (bids._check_sidecars, bids._check_field):
        try:
            found = check(parts(first, second))
        except ValueError as error:
            assert 'sub-1_echo-' in str(error)
        else:
            assert all(isinstance(text, str) for text in found['warnings'])
            assert all(1e-4 <= t <= 0.3 for t in found.get('echo_times', ()))
            assert 0 < found.get('b0_tesla', 1) <= bids.STRONGEST
            json.dumps(found, allow_nan=False)


@QUICK
@given(content=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_as_a_sidecar_are_an_object_or_refused(tmp_path, content):
    path = tmp_path / 'x.json'
    path.write_bytes(content)
    if bids._why_unreadable(path) is None:
        assert isinstance(read_json(path), dict)


@QUICK
@given(content=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_as_a_filter_are_entities_or_refused(tmp_path, content):
    path = tmp_path / 'filter.json'
    path.write_bytes(content)
    try:
        assert isinstance(bids.read_filter(path), dict)
    except bids.BIDSInputError as error:
        assert str(path) in str(error)


@QUICK
@given(rows=st.lists(st.fixed_dictionaries({'a': TEXT, 'b': st.none() | st.integers() | TEXT}), max_size=4))
def test_any_text_goes_through_a_table(tmp_path, rows):
    write_tsv(tmp_path / 't.tsv', rows, ['a', 'b'])
    back = read_tsv(tmp_path / 't.tsv')
    assert len(back) == len(rows) and all(set(row) == {'a', 'b'} for row in back)


@QUICK
@given(content=st.dictionaries(TEXT, TEXT))
def test_any_text_goes_through_json(tmp_path, content):
    try:
        write_json(tmp_path / 'x.json', content)
    except UnicodeEncodeError:
        assert any('\ud800' <= c <= '\udfff' for pair in content.items() for text in pair for c in text)
    else:
        assert read_json(tmp_path / 'x.json') == content
