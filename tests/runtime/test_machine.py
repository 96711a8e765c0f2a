from __future__ import annotations

import pytest

from tledge.runtime import machine

CPUS = "/sys/devices/system/cpu"


@pytest.fixture
def files(monkeypatch):
    """A made-up machine: what each of the kernel's files says."""
    files: dict[str, str] = {}
    monkeypatch.setattr(machine, "_read", lambda path: files.get(path, ""))
    monkeypatch.setattr(machine, "available_cpus", lambda: (0, 1, 2, 3))
    for cached in (machine.physical_cores, machine.cpu_flags):
        cached.cache_clear()
    yield files
    for cached in (machine.physical_cores, machine.cpu_flags):
        cached.cache_clear()


def hyper_threads(files: dict[str, str]) -> None:
    for cpu in range(4):
        files[f"{CPUS}/cpu{cpu}/topology/physical_package_id"] = "0"
        files[f"{CPUS}/cpu{cpu}/topology/core_id"] = str(cpu % 2)


def test_hyper_threads_of_one_core_count_once(files):
    hyper_threads(files)
    assert machine.physical_cores() == 2


def test_cores_of_a_machine_that_does_not_tell(files):
    assert machine.physical_cores() == 4


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 4), ("150000 100000", 1), ("50000 100000", 1)])
def test_a_containers_limit_counts(files, quota, cores):
    files["/sys/fs/cgroup/cpu.max"] = quota
    assert machine.physical_cores() == cores


def test_a_containers_limit_of_the_old_kind_counts(files):
    files["/sys/fs/cgroup/cpu/cpu.cfs_period_us"] = "100000"
    files["/sys/fs/cgroup/cpu/cpu.cfs_quota_us"] = "300000"
    assert machine.physical_cores() == 3


def test_flags_of_x86_and_of_arm(files):
    files["/proc/cpuinfo"] = "model name : X\nflags\t\t: fpu avx2 avx_vnni\n"
    assert machine.cpu_flags() == {"fpu", "avx2", "avx_vnni"}
    assert machine.has_int8_dot_product()
    machine.cpu_flags.cache_clear()
    files["/proc/cpuinfo"] = "Features\t: fp asimd asimddp\n"
    assert machine.cpu_flags() == {"fp", "asimd", "asimddp"}
    assert not machine.has_int8_dot_product()


def test_this_machine():
    assert 1 <= machine.physical_cores() <= len(machine.available_cpus())
    cuda = machine.cuda()
    assert bool(cuda.gpus) == (cuda.reason == "")
