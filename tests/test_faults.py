"""Bad input of many kinds: each is named with its remedy, and the participant beside it is not touched."""

import gzip
import json
import os
import resource
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest

from qsmbids.bids import Acquisition, BIDSInputError, find_acquisitions, find_subjects, load_layout, read_filter
from qsmbids.cli.group import write_group_quality
from qsmbids.cli.parser import parse
from qsmbids.files import FileError, write_json, write_text, write_tsv
from qsmbids.interfaces.images import save_array
from qsmbids.reports.dataset import write_dataset_files
from qsmbids.reports.page import write_page
from qsmbids.reports.status import write_status
from qsmbids.workflows.base import _prepare_echoes, method_settings

NAN = float('nan')


def image(folder, part='mag', echo=1):
    return folder / f'sub-01_echo-{echo}_part-{part}_MEGRE.nii.gz'


def sidecar(folder, part='mag', echo=1):
    return folder / f'sub-01_echo-{echo}_part-{part}_MEGRE.json'


def write_header(offset, kind, *values, everywhere=True):
    """Return a damage: numbers written into the header of all images, or of the first alone."""
    def damage(folder):
        for path in folder.glob('*.nii.gz') if everywhere else [image(folder)]:
            content = bytearray(gzip.decompress(path.read_bytes()))
            struct.pack_into(f'<{kind}', content, offset, *values)
            path.write_bytes(gzip.compress(bytes(content)))
    return damage


def affine(*rows):
    return write_header(280, '12f', *rows)


def voxels(change, part='mag'):
    def damage(folder):
        for path in folder.glob(f'*part-{part}*.nii.gz'):
            old = nibabel.load(path)
            nibabel.save(nibabel.Nifti1Image(change(old.get_fdata(dtype=np.float32)), old.affine), path)
    return damage


def metadata(**values):
    def damage(folder):
        for path in folder.glob('*.json'):
            path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return damage


def text_of_sidecar(content):
    def damage(folder):
        sidecar(folder).write_bytes(content if isinstance(content, bytes) else content.encode())
    return damage


def flip_a_byte(folder):
    content = bytearray(image(folder).read_bytes())
    content[len(content) // 2] ^= 0xff
    image(folder).write_bytes(content)


def append_a_bomb(folder):
    """A file whose header is right and that unpacks to far more."""
    content = gzip.decompress(image(folder).read_bytes())
    image(folder).write_bytes(gzip.compress(content + bytes(2 ** 25)))


def replace_by_link(path, target):
    path.unlink()
    path.symlink_to(target)


def replace_by_folder(folder):
    image(folder).unlink()
    image(folder).mkdir()


def copy_first(name):
    def damage(folder):
        (folder / name).write_bytes(image(folder).read_bytes())
    return damage


SIDECAR = '"EchoTime": 0.004, "MagneticFieldStrength": 3'
FIRST, FIRST_JSON = 'sub-01_echo-1_part-mag_MEGRE.nii.gz', 'sub-01_echo-1_part-mag_MEGRE.json'
# What is done to participant 01, and what must be said about it.
FAULTS = {
    'gzip, one byte flipped': (flip_a_byte, FIRST, 'damaged', 'again'),
    'gzip, random bytes': (lambda f: image(f).write_bytes(np.random.default_rng(1).bytes(3000)), FIRST, 'again'),
    'gzip, truncated': (lambda f: image(f).write_bytes(image(f).read_bytes()[:800]), FIRST, 'truncated', 'again'),
    'gzip, a bomb': (append_a_bomb, FIRST, 'more than its header', 'again'),
    'not gzip at all': (lambda f: image(f).write_bytes(gzip.decompress(image(f).read_bytes())), FIRST, 'again'),
    'NIfTI, wrong magic': (write_header(344, '4s', b'abcd'), FIRST, 'cannot be read as NIfTI'),
    'NIfTI, more voxels than can be': (write_header(40, '8h', 3, 900, 900, 900, 1, 1, 1, 1), FIRST, 'cannot hold'),
    'NIfTI, voxels beyond the file': (write_header(108, 'f', 1e9), FIRST, 'cannot hold'),
    'NIfTI, negative size': (write_header(40, '8h', 3, -5, 7, 8, 1, 1, 1, 1), FIRST, 'shape', 'again'),
    'NIfTI, no size': (write_header(40, '8h', 3, 0, 7, 8, 1, 1, 1, 1), FIRST, 'shape', 'again'),
    'NIfTI, a plane': (write_header(40, '8h', 2, 6, 56, 1, 1, 1, 1, 1), FIRST, 'shape', '3D'),
    'NIfTI, one slice': (write_header(40, '8h', 3, 6, 56, 1, 1, 1, 1, 1), FIRST, 'shape', '3D'),
    'NIfTI, five axes': (write_header(40, '8h', 5, 6, 7, 2, 2, 2, 1, 1), FIRST, 'shape', '3D'),
    'NIfTI, other byte order in the size': (write_header(40, '8h', 9, 6, 7, 8, 1, 1, 1, 1), FIRST, 'again'),
    'NIfTI, unknown kind of number': (write_header(70, '2h', 9999, 32, everywhere=False), FIRST, 'again'),
    'NIfTI, colours': (write_header(70, '2h', 128, 24, everywhere=False), FIRST, 'one number per voxel', 'again'),
    'NIfTI, complex numbers': (write_header(70, '2h', 32, 64, everywhere=False), FIRST, 'real and imaginary'),
    'slope, huge': (write_header(112, '2f', 1e38, 0), FIRST, 'finite'),
    'slope, tiny': (write_header(112, '2f', 1e-30, 0), FIRST, 'scl_slope'),
    'affine, not a number': (affine(NAN, *[0] * 11), FIRST, 'non-finite', 'Correct the header'),
    'affine, singular': (affine(1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0), FIRST, 'Correct the header'),
    'affine, sheared': (affine(1, .8, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0), FIRST, 'sheared', 'Correct the header'),
    'affine in micrometres': (affine(1000, 0, 0, 0, 0, 1000, 0, 0, 0, 0, 1000, 0), FIRST, 'wants mm'),
    'affine in metres': (affine(.001, 0, 0, 0, 0, .001, 0, 0, 0, 0, .001, 0), FIRST, 'wants mm'),
    'magnitude, not a number': (voxels(lambda v: v * NAN), FIRST, 'not finite'),
    'magnitude, zero': (voxels(lambda v: v * 0), FIRST, 'zero everywhere'),
    'magnitude, huge': (voxels(lambda v: v * 1e30), FIRST, 'scl_slope'),
    'phase, infinite': (voxels(lambda v: v + np.inf, 'phase'), 'must vary', 'siblings'),
    'phase, constant': (voxels(lambda v: v * 0 + 1, 'phase'), 'must vary', 'siblings'),
    'one echo on another grid': (lambda f: nibabel.save(nibabel.Nifti1Image(np.ones((6, 7, 9)), np.eye(4)),
                                                        image(f, echo=2)), 'echo-2', 'Resample'),
    'an echo as .nii and as .nii.gz': (lambda f: nibabel.save(nibabel.load(image(f)), str(image(f))[:-3]), FIRST,
                                       'same echo', 'Remove'),
    'echo 1 and echo 01': (copy_first('sub-01_echo-01_part-mag_MEGRE.nii.gz'), FIRST, 'same echo', 'Remove'),
    'with part-mag and without': (copy_first('sub-01_echo-1_MEGRE.nii.gz'), FIRST, 'same echo', 'Remove'),
    'echo without a number': (lambda f: image(f).rename(f / 'sub-01_echo-a_part-mag_MEGRE.nii.gz'), 'missing'),
    'one echo fewer in the phase': (lambda f: image(f, 'phase', 3).unlink(), 'part-phase: 1, 2)', 'missing'),
    'no magnitude': (lambda f: [p.unlink() for p in f.glob('*part-mag*')], 'add the part-mag'),
    'no sidecars': (lambda f: [p.unlink() for p in f.glob('*.json')], 'EchoTime is missing', 'Add it'),
    'a link to nothing, as of DataLad': (lambda f: replace_by_link(image(f), '../.git/annex/x'), FIRST, 'datalad get'),
    'a link to itself': (lambda f: replace_by_link(image(f), FIRST), FIRST, 'link to nothing'),
    'a folder for an image': (replace_by_folder, 'missing'),
    'sidecar, cut off': (text_of_sidecar(f'{{{SIDECAR},'), FIRST_JSON, 'Correct it'),
    'sidecar, empty': (text_of_sidecar(''), FIRST_JSON, 'Correct it'),
    'sidecar, a list': (text_of_sidecar('[1, 2]'), FIRST_JSON, 'no object', 'Correct it'),
    'sidecar, a byte order mark': (text_of_sidecar(f'\ufeff{{{SIDECAR}}}'), FIRST_JSON, 'BOM', 'Correct it'),
    'sidecar, UTF-16': (text_of_sidecar(f'{{{SIDECAR}}}'.encode('utf-16')), FIRST_JSON, 'utf-8', 'Correct it'),
    'sidecar, Latin-1': (text_of_sidecar(f'{{{SIDECAR}, "x": "é"}}'.encode('latin-1')), FIRST_JSON, 'Correct it'),
    'sidecar, half a character': (text_of_sidecar(f'{{{SIDECAR}, "x": "\\ud800"}}'), FIRST_JSON, 'Correct it'),
    'sidecar, nested 20,000 times': (text_of_sidecar('{"a":' * 20000 + '1' + '}' * 20000), FIRST_JSON, 'deeply'),
    'sidecar, a number of 6000 digits': (text_of_sidecar(f'{{{SIDECAR}, "x": {"9" * 6000}}}'), FIRST_JSON, 'digits'),
    'sidecar, 6 MB': (text_of_sidecar(f'{{{SIDECAR}, "x": "{"9" * 6_000_000}"}}'), FIRST_JSON, '6 MB'),
    'sidecar, a link to itself': (lambda f: replace_by_link(sidecar(f), FIRST_JSON), FIRST_JSON, 'Correct it'),
    'echo time, not a number': (text_of_sidecar(f'{{{SIDECAR.replace("0.004", "NaN")}}}'), FIRST, 'EchoTime is'),
    'echo time, infinite': (text_of_sidecar(f'{{{SIDECAR.replace("0.004", "Infinity")}}}'), FIRST, 'EchoTime is'),
    'echo time, null': (text_of_sidecar(f'{{{SIDECAR.replace("0.004", "null")}}}'), FIRST, 'EchoTime is'),
    'echo time, negative': (metadata(EchoTime=-.004), FIRST, 'too short'),
    'echo time, an object': (metadata(EchoTime={'a': 1}), FIRST, 'EchoTime is not a number'),
    'echo time, an empty list': (metadata(EchoTime=[]), FIRST, 'EchoTime is', 'Correct'),
    'field strength, zero': (metadata(MagneticFieldStrength=0), FIRST, 'MagneticFieldStrength is 0', 'tesla'),
    'field strength, negative': (metadata(MagneticFieldStrength=-3), FIRST, 'MagneticFieldStrength is -3', 'tesla'),
    'field strength in gauss': (metadata(MagneticFieldStrength=30000), FIRST, '30000', 'tesla'),
    'field strength, text': (metadata(MagneticFieldStrength='3T'), FIRST, "'3T'", 'must be a number'),
    'field strength, a list': (metadata(MagneticFieldStrength=[3]), FIRST, '[3]', 'must be a number'),
    'frequency in Hz': (metadata(ImagingFrequency=123.25e6), FIRST, 'imaging_frequency_mhz', 'MHz'),
    'frequency, text': (metadata(ImagingFrequency='x'), FIRST, "'x'", 'must be a number'),
    'units that do not exist': (metadata(Units='degrees'), 'part-phase', "'degrees'", 'Correct'),
    'units, a list': (metadata(Units=['rad']), 'part-phase', "['rad']", 'Correct'),
}
# What must not stop anything.
HARMLESS = {
    'a folder that leads back': lambda f: (f / 'loop').symlink_to('../..'),
    'vendor, a list': metadata(Manufacturer=['Siemens']),
    'vendor, a number': metadata(Manufacturer=3),
    'partial Fourier, an object': metadata(PartialFourier={'a': 1}),
    'kind, a list': metadata(MRAcquisitionType=['2D']),
    'not a number where it does not matter': metadata(RepetitionTime=NAN),
    'names that BIDS does not know': copy_first('sub-01_acq-é"\'&_echo-1_MEGRE.nii.gz'),
    'negative sizes of voxels beside a right affine': write_header(76, '4f', 1, -1, 1, 1),
    'slope, not a number': write_header(112, '2f', NAN, 0),
    'some voxels, not a number': voxels(lambda v: np.where(v > 90, NAN, v)),
    'a participant without a name': lambda f: (f.parents[1] / 'sub-').mkdir(),
    'a copy of a participant': lambda f: (f.parents[1] / 'sub-01 (copy)' / 'anat').mkdir(parents=True),
    'a participant that is a link to nothing': lambda f: (f.parents[1] / 'sub-03').symlink_to('nowhere'),
    'a sidecar of another modality, cut off': lambda f: (f / 'sub-01_T1w.json').write_text('{'),
}


@pytest.fixture
def examine(bids_root, add_echoes, tmp_path, monkeypatch):
    """Damage participant 01; return what is said about it, once 02 is known to be whole and the data prepared."""
    folder = add_echoes(bids_root, '01')
    add_echoes(bids_root, '02')
    monkeypatch.chdir(tmp_path)
    settings = method_settings(parse([str(bids_root), 'out', 'participant', '-w', 'work']))

    def prepare(acquisition):
        if not acquisition.problems:
            try:
                _prepare_echoes(acquisition, settings).run()
            except FileError as error:
                return str(error)
        return ' '.join(acquisition.problems)

    def call(damage):
        damage(folder)
        subjects = find_subjects(bids_root)
        found = {a.name: a for a in find_acquisitions(load_layout(bids_root, subjects), subjects)}
        assert prepare(found['sub-02']) == ''
        return prepare(found['sub-01'])
    return call


@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_is_named_with_its_remedy_and_its_neighbour_is_whole(fault, examine):
    damage, *texts = FAULTS[fault]
    said = examine(damage)
    assert said and '\n' not in said
    assert [text for text in texts if text not in said] == [], said


@pytest.mark.parametrize('oddity', HARMLESS)
def test_what_is_only_odd_stops_nothing(oddity, examine):
    assert examine(HARMLESS[oddity]) == ''


def test_a_sidecar_of_the_root_that_cannot_be_read_is_named_by_those_it_holds_for(bids_root, add_echoes):
    add_echoes(bids_root, '01')
    add_echoes(bids_root, '02', suffix='T2starw', echo_times=(0.02,))
    (bids_root / 'MEGRE.json').write_text('{')
    first, second = find_acquisitions(load_layout(bids_root, ['01', '02']), ['01', '02'])
    assert 'MEGRE.json' in first.problems[0] and not second.problems


@pytest.mark.parametrize('text', ['{', '[]', '{"Name": "x"}', ''])
def test_a_data_set_without_a_usable_description_is_refused_as_a_whole(bids_root, add_echoes, text):
    add_echoes(bids_root)
    (bids_root / 'dataset_description.json').write_text(text)
    with pytest.raises(BIDSInputError, match='dataset_description.json.*Correct|Correct its dataset_description.json'):
        load_layout(bids_root, find_subjects(bids_root))


@pytest.mark.parametrize('value', ['../../etc/passwd', '*', '"', "'; drop table files; --", '\\', 'é', ['a', 'b'],
                                   None, 7, {'a': 1}, [{}], True])
def test_filters_find_nothing_beyond_the_data_set(bids_root, add_echoes, tmp_path, value):
    add_echoes(bids_root)
    path = tmp_path / 'filter.json'
    path.write_text(json.dumps({'megre': {'acquisition': value}}))
    try:
        chosen = read_filter(path)
    except BIDSInputError as error:
        assert 'acquisition' in str(error) and isinstance(value, (dict, list, bool))
        return
    found = find_acquisitions(load_layout(bids_root, ['01']), ['01'], bids_filter=chosen)
    assert all(Path(p).is_relative_to(bids_root) for a in found for paths in a.files.values() for p in paths)


def test_a_path_full_of_odd_characters_is_no_obstacle(tmp_path, add_echoes):
    root = tmp_path / 'a "b" \'c\' & é $HOME;%20{x}[y]'
    root.mkdir()
    (root / 'dataset_description.json').write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    add_echoes(root)
    (found,) = find_acquisitions(load_layout(root, find_subjects(root)), ['01'])
    assert not found.problems and found.sources[0].startswith('bids:raw:sub-01/')


def write_page_of(folder):
    acquisition = Acquisition({'subject': '1'}, 'MEGRE', {})
    write_page(folder, '1', [(acquisition, {'state': 'failed', 'reason': 'x', 'crashfile': ''})], {}, '', '0')


def write_map(folder, name):
    like = nibabel.Nifti1Image(np.zeros((9, 9, 9)), np.eye(4))
    save_array(folder / name, np.random.default_rng(0).normal(size=like.shape), like)


WRITERS = {
    'JSON': lambda folder: write_json(folder / 'x.json', {'a': 'x' * 5000}),
    'a table': lambda folder: write_tsv(folder / 'x.tsv', [{'a': 'x' * 5000}], ['a']),
    'the status': lambda folder: write_status(folder, 'x', [{'participant': 'x' * 5000}]),
    'files of the data set': lambda folder: write_dataset_files(folder, '/', {'x': 'x' * 5000}),
    'the methods text': lambda folder: write_text(folder / 'CITATION.md', 'x' * 5000),
    'a map': lambda folder: write_map(folder, 'x.nii'),
    'a compressed map': lambda folder: write_map(folder, 'x.nii.gz'),
    'the page': write_page_of,
    'the quality of the group': lambda folder: write_group_quality(folder, [
        {'participant': 'x' * 5000, 'acquisition': 'n/a', 'session': 'n/a', 'run': 'n/a', 'state': 'failed'}]),
}


@pytest.mark.parametrize('writer', WRITERS)
def test_a_disk_that_is_full_is_named_and_nothing_half_is_left(writer, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, before[1]))
    try:
        with pytest.raises(FileError, match=f'{tmp_path}.*cannot be written.*Make room'):
            WRITERS[writer](tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert all(path.stat().st_size <= 400 for path in tmp_path.rglob('*') if path.is_file())
    assert not [path for path in tmp_path.rglob('.*') if path.name != '.bidsignore']


@pytest.mark.skipif(os.getuid() == 0, reason='root may read everything')
def test_what_may_not_be_read_is_named(examine):
    assert FIRST in examine(lambda folder: image(folder).chmod(0))
