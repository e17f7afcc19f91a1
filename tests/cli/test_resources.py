import os

import psutil
import pytest

from qsmbids.cli import resources
from qsmbids.cli.resources import available_cores, available_memory_gb


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Pretend to be in control groups: the text of /proc/self/cgroup, and files below /sys/fs/cgroup."""
    for name in ('SLURM_CPUS_PER_TASK', 'SLURM_MEM_PER_NODE'):
        monkeypatch.delenv(name, raising=False)

    def build(own, **files):
        (tmp_path / 'own').write_text(own)
        for path, text in files.items():
            file = tmp_path / 'top' / path.replace('__', '/')
            file.parent.mkdir(parents=True, exist_ok=True)
            file.with_name(file.name.replace('-', '.')).write_text(text)
        monkeypatch.setattr(resources, 'OWN_CGROUPS', tmp_path / 'own')
        monkeypatch.setattr(resources, 'CGROUP_ROOT', tmp_path / 'top')
        monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(64)))
    return build


def test_version_2_takes_the_least_of_all_groups_above(groups):
    groups('0::/job/step\n', **{'job__memory-max': '2000000000\n', 'job__step__memory-max': 'max\n',
                                'job__step__cpu-max': '250000 100000\n', 'cpu-max': 'max 100000\n'})
    assert available_memory_gb() == (pytest.approx(1.8), 'control group')
    assert available_cores() == 2


def test_version_1_has_a_folder_for_each_controller(groups):
    groups('5:cpu,cpuacct:/a\n4:memory:/a/b\n0::/\n', **{
        'memory__a__b__memory-limit_in_bytes': '9223372036854771712', 'memory__a__memory-limit_in_bytes': '1000000000',
        'cpu__a__cpu-cfs_quota_us': '50000', 'cpu__a__cpu-cfs_period_us': '100000'})
    assert available_memory_gb() == (pytest.approx(0.9), 'control group')
    assert available_cores() == 1


def test_without_limits_it_is_the_machine(groups):
    groups('4:memory:/\n0::/\n', **{'memory__memory-limit_in_bytes': '9223372036854771712'})
    memory, source = available_memory_gb()
    assert source == 'machine' and memory == pytest.approx(psutil.virtual_memory().available * 0.9e-9, rel=0.2)
    assert available_cores() == 64
    resources.OWN_CGROUPS.unlink()
    assert available_cores() == 64


def test_slurm_without_enforcement_is_obeyed_all_the_same(groups, monkeypatch):
    groups('0::/\n')
    monkeypatch.setenv('SLURM_CPUS_PER_TASK', '3')
    monkeypatch.setenv('SLURM_MEM_PER_NODE', '1000')
    assert available_cores() == 3
    assert available_memory_gb() == (pytest.approx(0.9437, rel=1e-3), 'SLURM')
