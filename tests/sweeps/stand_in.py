"""A worker whose cells cost nothing, or go wrong as their seed says; or a sweep of it.

python stand_in.py                 a worker
python stand_in.py SPEC OUT JOBS   a sweep whose workers are these
"""

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path

from vi_bench.errors import InputError
from vi_bench.sweeps import pool, work
from vi_bench.sweeps.grid import read_sweep, sweep_of
from vi_bench.sweeps.store import Full, Store

COMMAND = [sys.executable, __file__]

ROOT = Path(__file__).parents[2]

CRASH, SEGFAULT, STUCK, BROKEN, REFUSED, GONE, SLOW, LARGE = range(1000, 1008)


def seeds(*values, **base):
    """A sweep of seeds."""
    return sweep_of({"name": "s", "base": base, "grid": {"seed": list(values)}})


def cells(folder):
    """What is known of every finished cell; none is damaged."""
    store = Store(folder, create=False)
    assert not any(map(store.damage, store.finished()))
    return [json.loads(store.read(key, work.CELL)) for key in store.finished()]


def make(store, key, job, begun):
    match job["spec"]["seed"]:
        case 1000:
            os.kill(os.getpid(), signal.SIGKILL)
        case 1001:
            ctypes.string_at(0)
        case 1002:
            time.sleep(600)
        case 1003:
            raise ZeroDivisionError("first line\nsecond line")
        case 1004:
            raise InputError("data: not today")
        case 1005:
            print("the end is near", file=sys.stderr)
            os._exit(3)
        case 1006:
            time.sleep(0.05)
        case 1007:
            if (store.folder / "full").exists():
                raise Full("no space left")
    with store.write(key) as folder:
        known = {"seed": job["spec"]["seed"], "pid": os.getpid(), "seconds": 0.01}
        (folder / work.CELL).write_text(json.dumps(known))
        (folder / "summary.json").write_text(json.dumps(job["choice"]) * 200)


if __name__ == "__main__":
    work._make = make
    work.device_kind = lambda name: {"kind": "cpu"}
    work.refusal = lambda specs, plugins: {}
    if len(sys.argv) == 1:
        work.main()
    else:
        from vi_bench.sweeps.sweep import run_sweep

        pool.COMMAND = COMMAND
        found = run_sweep(read_sweep(sys.argv[1]), sys.argv[2], jobs=int(sys.argv[3]))
        print(found.line())
