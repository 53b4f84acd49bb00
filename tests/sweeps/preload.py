"""For a Dask worker: cells are made by stand-ins."""

from tests.sweeps.stand_in import COMMAND
from vi_bench.sweeps import pool

pool.COMMAND = COMMAND
