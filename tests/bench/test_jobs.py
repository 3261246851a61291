"""Jobs from the command line and from TOML: their keys, the values they list, what is refused."""

import sys

import pytest

from aiofs.bench import jobs
from aiofs.bench.jobs import BadJob, from_command_line, from_file
from aiofs.bench.keys import KEYS, seconds, size


@pytest.fixture
def read(tmp_path):
    """read(text, **options) reads a file of jobs."""

    def from_text(text, **options):
        if sys.version_info < (3, 11):
            pytest.importorskip("tomli")
        path = tmp_path / "jobs.toml"
        path.write_text(text)
        return from_file(path, options)

    return from_text


def refusal(call, *arguments, **options):
    with pytest.raises(BadJob) as refused:
        call(*arguments, **options)
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "count"),
    [("512", 512), ("4k", 4096), ("4K", 4096), ("4KiB", 4096), ("1m", 1 << 20), ("2g", 1 << 31)],
)
def test_sizes_are_those_of_fio(text, count):
    assert size(text) == count


@pytest.mark.parametrize("text", ["", "k", "-1", "0", "4x", "1.5k", True, [4096], "0x10"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match=r"size|bytes"):
        size(text)


@pytest.mark.parametrize(("text", "value"), [("500ms", 0.5), ("2s", 2), ("1m", 60), (0.25, 0.25)])
def test_times(text, value):
    assert seconds(text) == value


def test_job_without_keys_has_the_defaults():
    (job,) = from_command_line({}).jobs
    assert {key: job[key] for key in KEYS} == {key: spec.default for key, spec in KEYS.items()}


def test_listed_values_are_combined():
    listed = from_command_line({"bs": "4k,64k", "iodepth": "1,8,32"}).jobs
    assert {(job["bs"], job["iodepth"]) for job in listed} == {
        (bs, depth) for bs in (4096, 65536) for depth in (1, 8, 32)
    }
    assert len({job.name for job in listed}) == 6
    assert "job bs=4k iodepth=32" in {job.name for job in listed}


def test_value_that_is_listed_twice_counts_once():
    assert len(from_command_line({"bs": "4k,4096"}).jobs) == 1


def test_file_has_jobs_global_keys_and_keys_of_the_run(read):
    found = read(
        'rounds = 7\nwith = ["C", "aiofs"]\n[global]\nbs = "8k"\nruntime = 1\n'
        "[small]\nbs = 512\n[deep]\niodepth = [1, 4]\ncount = 10\n"
    )
    assert found.run == {"rounds": 7, "with": ["C", "aiofs"]}
    assert [(job.group, job["bs"], job["iodepth"]) for job in found.jobs] == [
        ("small", 512, 1),
        ("deep", 8192, 1),
        ("deep", 8192, 4),
    ]
    assert [(job["runtime"], job["count"]) for job in found.jobs[:2]] == [(1, None), (0.2, 10)]


def test_option_overrides_the_file(read):
    found = read("[global]\ncount = 5\n[a]\nbs = 512\n[b]\n", bs="4k,8k", runtime="3ms")
    assert [(job.group, job["bs"], job["count"]) for job in found.jobs] == [
        (name, size, None) for name in "ab" for size in (4096, 8192)
    ]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[a]\niodpeth = 4", ("jobs.toml", '"a"', '"iodpeth"', 'mean "iodepth"', "rwmixread")),
        ('[a]\nrw = "randreed"', ("jobs.toml", '"a"', "rw = 'randreed'", "randread, randwrite")),
        ("[a]\nbs = []", ("jobs.toml", '"a"', "bs", "one value")),
        ('[a]\nrw = ["read", "write"]', ("jobs.toml", '"a"', "rw", "one value")),
        ("[a]\niodepth = 0", ("jobs.toml", '"a"', "iodepth = 0", "1 to 100,000")),
        ("[a]\niodepth = true", ("jobs.toml", '"a"', "iodepth = True", "no number")),
        ("[a]\ncount = 1\nruntime = 1", ("jobs.toml", '"a"', "exclude each other")),
        ("bs = 512\n[a]", ("jobs.toml", '"bs"', "[global]")),
        ("round = 5\n[a]", ("jobs.toml", '"round"', 'mean "rounds"')),
        ("rounds = 0\n[a]", ("jobs.toml", "rounds = 0")),
        ('with = ["aoifs"]\n[a]', ("jobs.toml", '"aoifs"', 'mean "aiofs"', "turbofile")),
        ('with = "C"\n[a]', ("jobs.toml", "with", "list")),
        ("[global]\nbs = 512", ("jobs.toml", "no job")),
        ("", ("jobs.toml", "no job")),
        ("[a", ("jobs.toml", "no TOML")),
    ],
)
def test_mistake_in_a_file_is_named_with_the_file_and_the_choices(read, text, named):
    message = refusal(read, text)
    assert [part for part in named if part not in message] == []


def test_missing_file_is_named(tmp_path):
    assert "No such file" in refusal(from_file, tmp_path / "jobs.toml", {})


def test_missing_toml_reader_says_what_to_install(read, monkeypatch):
    monkeypatch.setattr(jobs, "toml", None)
    assert "pip install 'aiofs[bench]'" in refusal(read, "[a]")


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"bs": "4x"}, "--bs 4x"),
        ({"size": "512", "bs": "4k"}, "--size 512"),
        ({"direct": "1", "bs": "100"}, "--bs 100"),
        ({"direct": "1", "volume": "private"}, "--volume private"),
        ({"direct": "1", "cache": "cold"}, "--cache cold"),
        ({"direct": "1", "buffer_offset": "16"}, "--buffer_offset 16"),
        ({"cache": "cold", "volume": "memory"}, "--volume memory"),
        ({"filename": "x", "volume": "host"}, "--volume host"),
        ({"buffer_offset": "4096"}, "--buffer_offset 4096"),
    ],
)
def test_option_that_is_refused_is_named_as_it_was_written(keys, named):
    assert named in refusal(from_command_line, keys)
