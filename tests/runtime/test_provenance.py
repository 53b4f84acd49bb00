"""What is told of where a result comes from."""

import os
import subprocess
import sys

import pytest

from vi_bench.runtime import provenance
from vi_bench.runtime.provenance import repository


def git(folder, *words):
    who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    return subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def work(tmp_path):
    repository.cache_clear()
    git(tmp_path, "init", "-q")
    (tmp_path / "paper.tex").write_text("a")
    git(tmp_path, "add", "paper.tex")
    git(tmp_path, "commit", "-q", "-m", "m")
    return tmp_path


def test_the_commit_of_the_folder_one_works_in(work):
    commit = git(work, "rev-parse", "HEAD")
    assert repository(work) == {"commit": commit, "dirty": False}


@pytest.mark.parametrize("name", ["paper.tex", "new.txt"])
def test_what_was_changed_is_told(work, name):
    (work / name).write_text("b")
    assert repository(work)["dirty"] is True


def test_without_a_commit_a_repository_or_git_there_is_nothing(tmp_path, monkeypatch):
    repository.cache_clear()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert repository(tmp_path) is None
    repository.cache_clear()
    git(tmp_path, "init", "-q")
    assert repository(tmp_path) is None
    repository.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert repository(tmp_path) is None


def test_the_command_and_limits_on_threads(work, monkeypatch):
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "argv", [os.path.join("somewhere", "vi-bench"), "run"])
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = provenance.provenance()
    assert found["command"] == ["vi-bench", "run"]
    assert found["threads"]["OMP_NUM_THREADS"] == "3"
    assert found["git"]["commit"] == git(work, "rev-parse", "HEAD")
