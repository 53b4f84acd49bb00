"""Tables of the command line on terminals of any width."""

import io

import pytest
from rich.console import Console

from vi_bench.reports.style import bare_table

NAMES = [f"quantity {i}\nin nats" for i in range(6)]
NUMBERS = [[f"-{k}{i}51.568±0.00{i}" for i in range(6)] for k in range(3)]
WORDS = "what a check proves, in words that may go on in the next line"


def printed(width, prose=None, keys=1):
    table = bare_table("a title", keys)
    table.add_column("method")
    if prose:
        table.add_column("what it proves")
    for name in NAMES:
        table.add_column(name, justify="right")
    for k, numbers in enumerate(NUMBERS):
        table.add_row(f"method-{k}", *([prose] if prose else []), *numbers)
    file = io.StringIO()
    Console(file=file, width=width).print(table)
    return file.getvalue()


@pytest.mark.parametrize("width", [30, 47, 80, 120, 200])
def test_no_number_is_cut_and_no_line_is_too_long(width):
    text = printed(width)
    assert all(number in text for numbers in NUMBERS for number in numbers)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("a title") == 1
    lines = [line.split() for line in text.splitlines() if "method-1" in line]
    assert [number for line in lines for number in line[1:]] == NUMBERS[1]


def test_where_there_is_room_it_is_one_table():
    assert printed(200).count("method-2") == 1
    assert printed(80).count("method-2") > 1


def test_prose_is_wrapped_and_may_be_a_key():
    text = printed(80, WORDS)
    assert all(number in text for numbers in NUMBERS for number in numbers)
    assert all(word in text for word in WORDS.split())
    assert max(map(len, text.splitlines())) <= 80
    both = printed(80, "short", keys=2)
    parts = both.count("method-0")
    assert parts > 1
    assert both.count("short") == parts * len(NUMBERS)
