"""``python -m vi_bench`` is ``vi-bench``."""

from vi_bench.cli.app import main

main()
