"""``python -m vi_bench`` is ``vi-bench``."""

from vi_bench.cli import main

main()
