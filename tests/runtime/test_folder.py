import pytest

from vi_bench.errors import InputError
from vi_bench.runtime.folder import RunFolder, default_folder


def test_a_failure_leaves_nothing(tmp_path):
    target = tmp_path / "a" / "b" / "run"

    def fail():
        with RunFolder(target) as staged:
            (staged / "half").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_overwrite_keeps_the_old_run(tmp_path):
    target = tmp_path / "run"
    with RunFolder(target) as staged:
        (staged / "summary.json").write_text("old")

    def fail():
        with RunFolder(target, overwrite=True) as staged:
            (staged / "summary.json").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (target / "summary.json").read_text() == "old"
    with RunFolder(target, overwrite=True) as staged:
        (staged / "summary.json").write_text("new")
    assert (target / "summary.json").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_what_is_no_run_is_never_replaced(tmp_path):
    target = tmp_path / "run"
    target.mkdir()
    with RunFolder(target, overwrite=True):
        pass  # an empty folder may be
    (target / "precious").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(InputError), RunFolder(target, overwrite):
            pass
    link = tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(InputError), RunFolder(link, overwrite=True):
        pass


def test_default_folders_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = default_folder("x")
    first.mkdir(parents=True)
    assert default_folder("x") != first
    assert first.parent.name == "results"
