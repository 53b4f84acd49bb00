"""What the import hook checks calls with."""

from beartype import BeartypeConf, beartype

CHECK = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float


def functions(function):
    """Check a function's arguments and result; constructors take more than they keep.

    Hyperparameters are numbers as given and arrays once bound to data.
    """
    if function.__qualname__.rpartition(".")[2] in ("__init__", "check_single_arg"):
        return function
    return CHECK(function)
