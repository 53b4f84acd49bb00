"""Finished cells survive: kills, full disks, flipped bytes, other processes."""

import json
import os
import random as chance
import signal
import subprocess
import sys
import time

import pytest

from vi_bench.errors import InputError
from vi_bench.runtime.folder import MANIFEST
from vi_bench.sweeps.store import STORE, Damaged, Store

KEYS = [f"{i:032x}" for i in range(400)]
FILES = {"summary.json": b'{"a": 1}\n', "nuts.nc": bytes(range(256)) * 40}

WRITER = """
import sys
from vi_bench.sweeps.store import Store
store = Store(sys.argv[1])
print("ready", flush=True)
most = int(sys.argv[2]) if sys.argv[2:] else 400
for key in [f"{i:032x}" for i in range(most)]:
    if store.has(key):
        continue
    with store.claim(key) as mine:
        if mine and not store.has(key):
            with store.write(key) as folder:
                (folder / "summary.json").write_bytes(b'{"a": 1}\\n')
                (folder / "nuts.nc").write_bytes(bytes(range(256)) * 40)
print("done", flush=True)
"""


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def fill(store, key=KEYS[0], files=FILES):
    with store.write(key) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
    return store.path(key)


@pytest.fixture
def start():
    """Starts code in a process of its own, which ends with the test."""
    begun = []

    def go(code, *arguments):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        begun.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return begun[-1]

    yield go
    for process in begun:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_cell_is_there_once_it_is_whole(store):
    with store.write(KEYS[0]) as folder:
        (folder / "summary.json").write_bytes(b"1")
        assert not store.has(KEYS[0])
        assert list(store.finished()) == []
    assert store.has(KEYS[0])
    assert list(store.finished()) == [KEYS[0]]
    assert store.read(KEYS[0], "summary.json") == b"1"
    assert store.damage(KEYS[0]) == []


def test_an_error_while_writing_leaves_nothing(store):
    def broken():
        with store.write(KEYS[0]) as folder:
            (folder / "summary.json").write_bytes(b"1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert not store.has(KEYS[0])
    assert os.listdir(store.folder / "tmp") == []


def test_of_two_that_finish_a_cell_the_first_one_stays(store):
    with store.write(KEYS[0]) as folder:
        (folder / "a").write_bytes(b"second")
        fill(store, files={"a": b"first"})
    assert store.read(KEYS[0], "a") == b"first"
    assert os.listdir(store.folder / "tmp") == []


@pytest.mark.parametrize("name", sorted([*FILES, MANIFEST]))
def test_every_flipped_byte_is_found_and_named(store, name):
    place = fill(store)
    whole = (place / name).read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 50)):
        broken = bytearray(whole)
        broken[at] ^= 1
        (place / name).write_bytes(broken)
        found = store.damage(KEYS[0])
        assert found or json.loads(broken) == json.loads(whole)  # only of white space
        if found and name != MANIFEST:
            assert [d.file for d in found] == [name]
    (place / name).write_bytes(whole)
    assert store.damage(KEYS[0]) == []


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "10239 of 10240 bytes"),
        (lambda p: p.write_bytes(p.read_bytes() + b"x"), "more than 10240 bytes"),
        (lambda p: p.unlink(), "cannot be read"),
        (lambda p: (p.unlink(), p.symlink_to("/etc/hostname")), "cannot be read"),
        (lambda p: (p.unlink(), p.mkdir()), "cannot be read: not a plain file"),
        (lambda p: (p.unlink(), os.mkfifo(p)), "cannot be read: not a plain file"),
    ],
)
def test_other_damage_is_found_and_the_cell_can_be_made_again(store, harm, said):
    place, other = fill(store), fill(store, KEYS[1])
    harm(place / "nuts.nc")
    with pytest.raises(Damaged, match=said):
        store.read(KEYS[0], "nuts.nc")
    assert [d.file for d in store.damage(KEYS[0])] == ["nuts.nc"]
    assert store.read(KEYS[0], "summary.json") == FILES["summary.json"]
    aside = store.put_aside(KEYS[0])
    assert aside.is_dir()
    assert not store.has(KEYS[0])
    fill(store)
    assert store.damage(KEYS[0]) == store.damage(KEYS[1]) == []
    assert other.is_dir()


def test_a_file_that_was_not_written_with_the_cell_is_named(store):
    (fill(store) / "more.txt").write_bytes(b"")
    assert [d.file for d in store.damage(KEYS[0])] == ["more.txt"]
    with pytest.raises(Damaged, match=r"more\.txt is not a file"):
        store.read(KEYS[0], "more.txt")


def test_a_linked_cell_is_no_cell(store, tmp_path):
    place = fill(store)
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    assert not store.has(KEYS[0])


@pytest.mark.parametrize("name", ["../out", "a/b", "", ".hidden", MANIFEST])
def test_a_cells_files_have_plain_names(store, name):
    fill(store)
    with pytest.raises(Damaged):
        store.read(KEYS[0], name)


@pytest.mark.parametrize("key", ["../../etc", "", "A" * 32, "0" * 31, "0" * 32 + "\n"])
def test_a_key_is_no_path(store, key):
    with pytest.raises(ValueError, match="is not the key"):
        store.path(key)


def test_folders_in_a_cell_are_refused(store):
    with pytest.raises(OSError, match="plain file"), store.write(KEYS[0]) as folder:
        (folder / "figures").mkdir()
    assert not store.has(KEYS[0])


def test_one_process_at_a_time_works_on_a_cell_and_a_dead_one_does_not(store, start):
    code = (
        "import sys, time; from vi_bench.sweeps.store import Store\n"
        "with Store(sys.argv[1]).claim(sys.argv[2]) as mine:\n"
        "    print(mine, flush=True); time.sleep(60)"
    )
    holder = start(code, store.folder, KEYS[0])
    assert holder.stdout.readline() == "True\n"
    with store.claim(KEYS[0]) as mine, store.claim(KEYS[1]) as free:
        assert not mine
        assert free
    holder.kill()
    holder.wait()
    with store.claim(KEYS[0]) as mine:  # the lock's file is there still
        assert mine


def test_a_cell_that_is_being_written_is_not_swept_away(store):
    with store.claim(KEYS[0]), store.write(KEYS[0]) as folder:
        (folder / "a").write_bytes(b"1")
        assert store.clean() == 0
    assert store.read(KEYS[0], "a") == b"1"


def test_kills_at_any_moment_lose_and_harm_nothing(store, start):
    """Two writers at once, killed again and again; then one finishes."""
    moments = chance.Random(0)
    for round_ in range(6):
        # however long a busy machine sleeps, some cells are left for the last writer
        most = 50 * (round_ + 1)
        writers = [start(WRITER, store.folder, most) for _ in range(2)]
        for writer in writers:
            writer.stdout.readline()
        time.sleep(moments.uniform(0.0, 0.15))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        assert not any(map(store.damage, store.finished()))
    started = len(list(store.finished()))
    assert 0 < started < len(KEYS)
    assert start(WRITER, store.folder).communicate()[0].endswith("done\n")
    store.clean()
    assert list(store.finished()) == KEYS
    for key in KEYS:
        assert store.damage(key) == []
        assert {n: store.read(key, n) for n in store.manifest(key)} == FILES
    assert os.listdir(store.folder / "tmp") == []


def test_two_writers_at_once_share_the_cells(store, start):
    writers = [start(WRITER, store.folder) for _ in range(2)]
    for writer in writers:
        assert writer.communicate(timeout=120)[0] == "ready\ndone\n"
    assert list(store.finished()) == KEYS
    assert not any(map(store.damage, KEYS))


def test_a_full_disk_is_one_line_and_leaves_finished_cells_alone(store, start):
    """A limit on the size of files stands for a quota."""
    fill(store)
    code = (
        "import resource, sys; from vi_bench.sweeps.store import Full, Store\n"
        "store = Store(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n"
        "    with store.write(sys.argv[2]) as folder:\n"
        "        (folder / 'nuts.nc').write_bytes(bytes(10240))\n"
        "except Full as error:\n"
        "    print(error)"
    )
    said = start(code, store.folder, KEYS[1]).communicate()[0]
    assert "File too large" in said
    assert "MB free" in said
    assert list(store.finished()) == [KEYS[0]]
    assert store.damage(KEYS[0]) == []
    assert os.listdir(store.folder / "tmp") == []


def test_attempts_are_kept_in_order_beside_a_finished_cell(store):
    store.fail(KEYS[0], "crashed", "signal 11", seconds=1.5)
    store.fail(KEYS[0], "failed", "ValueError: no")
    (store.folder / "attempts" / KEYS[0] / "zz.json").write_bytes(b"{")
    fill(store)
    found = store.attempts(KEYS[0])
    assert [a.status for a in found] == ["crashed", "failed"]
    assert found[0].known == {"seconds": 1.5}
    assert store.attempts(KEYS[1]) == []
    assert store.damage(KEYS[0]) == []


def test_what_is_no_store_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        Store(tmp_path)
    with pytest.raises(InputError, match="is not the folder of a sweep"):
        Store(tmp_path / "none", create=False)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"schema": 0}', "has schema 0, this vi-bench reads 1"),
        ('{"schema": 2}', "has schema 2, this vi-bench reads 1"),
        ("{}", "cannot be read"),
        ("[1]", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_another_schema_is_refused_by_name(store, content, said):
    (store.folder / STORE).write_text(content)
    with pytest.raises(InputError, match=said):
        Store(store.folder)


def test_a_store_is_begun_once_by_many(tmp_path, start):
    code = "import sys; from vi_bench.sweeps.store import Store; Store(sys.argv[1])"
    many = [start(code, tmp_path / "s") for _ in range(6)]
    assert [process.wait() for process in many] == [0] * 6
    assert json.loads((tmp_path / "s" / STORE).read_text())["schema"] == 1
    assert os.listdir(tmp_path / "s" / "tmp") == []


def test_a_folder_that_cannot_be_written_is_one_line():
    with pytest.raises(InputError, match="cannot be written"):
        Store("/proc/none/s")
