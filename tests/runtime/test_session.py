"""What the process is like while something is computed."""

from threadpoolctl import threadpool_info, threadpool_limits

from vi_bench.runtime.environment import THREADS, session


def threads_of_lapack():
    return {
        lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"
    }


def test_lapack_has_one_thread_during_a_session(monkeypatch):
    """Unless the user has said how many; afterwards it has those it had."""
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    with threadpool_limits(2, user_api="blas"):
        with session():
            assert threads_of_lapack() == {1}
        assert threads_of_lapack() == {2}
        monkeypatch.setenv(THREADS[0], "2")
        with session():
            assert threads_of_lapack() == {2}
