"""What cannot be used is refused in one line, and nothing is written or changed.

Every row is a command as a user types it, in a folder of files that are wrong each in
its own way. A row that ends by a traceback, is taken in silence, or leaves a file
behind is a fault of the package.
"""

import json
import os
import re
import shlex
import stat
import warnings
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import vi_bench as vb
from tests.records import record
from vi_bench.cli.app import app
from vi_bench.errors import InputError
from vi_bench.sweeps.index import refresh
from vi_bench.sweeps.store import Store

ROOT = Path(__file__).parents[2]

DATA = [
    # a table of comma-separated numbers
    ("nowhere.csv", r"data 'nowhere.csv': there is no such file"),
    ("empty.csv", r"'empty.csv': is empty, expected rows of numbers"),
    ("names.csv", r"'names.csv': is empty"),
    ("nan.csv", r"nan at line 3, column 1 \(1 such value\); expected finite numbers"),
    ("nans.csv", r"nan at line 4, column 1 \(2 such values\)"),
    ("inf.csv", r"-inf at line 2, column 2"),
    ("short.csv", r"'short.csv': line 2 has 1 cells, expected 2"),
    ("long.csv", r"'long.csv': line 2 has 3 cells, expected 2"),
    ("missing.csv", r"'' at line 2, column 2 is not a number"),
    ("text.csv", r"'x' at line 2, column 2 is not a number"),
    ("grouped.csv", r"'1_000' at line 2, column 1 is not a number"),
    ("twice.csv", r"'twice.csv': column 'a' occurs twice"),
    ("utf16.csv", r"'utf16.csv': is not UTF-8 text"),
    ("binary.csv", r"'.x02' at line 2, column 1 is not a number"),
    ("endless.csv", r"'endless.csv': line 1: field larger than field limit"),
    ("folder.csv", r"'folder.csv': cannot be read: Is a directory"),
    ("huge.csv", r"'huge.csv': values over 1e.70, whose fourth powers overflow"),
    # an array
    ("nan.npy", r"'nan.npy': nan at row 1, column 2"),
    ("inf.npy", r"'inf.npy': inf at row 2, column 1"),
    ("empty.npy", r"'empty.npy': is empty, shape \(0, 2\)"),
    ("narrow.npy", r"'narrow.npy': is empty, shape \(3, 0\)"),
    ("number.npy", r"'number.npy': has 0 dimensions, expected rows x features"),
    ("deep.npy", r"'deep.npy': has 3 dimensions"),
    ("text.npy", r"'text.npy': holds <U1 values, expected real numbers"),
    ("truth.npy", r"'truth.npy': holds bool values"),
    ("complex.npy", r"'complex.npy': holds complex128 values"),
    ("dates.npy", r"'dates.npy': holds datetime64\[D\] values"),
    ("fields.npy", r"'fields.npy': holds \[.*\] values"),
    ("pickled.npy", r"'pickled.npy': cannot be read as .npy: .*allow_pickle=False"),
    ("bare.npy", r"'bare.npy': cannot be read as .npy"),
    ("short.npy", r"'short.npy': cannot be read as .npy"),
    ("endless.npy", r"'endless.npy': needs more memory"),
    ("several.npy", r"'several.npy': cannot be read as .npy: .*several arrays"),
    ("noise.npy", r"'noise.npy': cannot be read as .npy"),
    ("folder.npy", r"'folder.npy': cannot be read as .npy"),
    # parquet and Zarr
    ("nan.parquet", r"'nan.parquet': nan at row 2, column 1"),
    ("null.parquet", r"'null.parquet': no value at row 2, column 'b'"),
    ("text.parquet", r"'text.parquet': column 'a' is not numeric"),
    ("truth.parquet", r"'truth.parquet': column 'a' is not numeric"),
    ("empty.parquet", r"'empty.parquet': is empty"),
    ("narrow.parquet", r"'narrow.parquet': has no columns"),
    ("twice.parquet", r"'twice.parquet': column 'a' occurs twice"),
    ("short.parquet", r"'short.parquet': cannot be read as parquet"),
    ("folder.parquet", r"'folder.parquet': cannot be read as parquet"),
    ("nan.zarr", r"'nan.zarr': nan at row 2, column 2"),
    ("flat.zarr", r"'flat.zarr': has 1 dimensions"),
    ("truth.zarr", r"'truth.zarr': holds bool values"),
    ("group.zarr", r"'group.zarr': cannot be read as a Zarr array"),
    ("short.zarr", r"'short.zarr': cannot be read as a Zarr array"),
    ("file.zarr", r"'file.zarr': cannot be read as a Zarr array"),
    # what is no file
    ("faithfull", r"unknown data 'faithfull': did you mean 'faithful'\?"),
    ("table.dat", r"unknown data 'table.dat'.*a .csv file"),
    ("folder", r"unknown data 'folder'"),
    ("''", r"unknown data ''"),
    ("simulate:k=3", r"unknown setting 'k' in simulate: "),
    ("simulate:K", r"simulate: K='' is not an integer"),
    ("simulate:K=three", r"simulate: K='three' is not an integer"),
    ("simulate:N=1e3", r"simulate: N='1e3' is not an integer"),
    ("simulate:K=0", r"simulate: K=0, expected at least 1"),
    ("simulate:N=-5", r"simulate: N=-5, expected at least 1"),
    ("simulate:seed=-1", r"simulate: seed=-1, expected at least 0"),
    ("simulate:separation=x", r"simulate: separation='x' is not a number"),
    ("simulate:separation=nan", r"simulate: separation=nan, expected .* at least 0"),
    ("simulate:separation=-1", r"simulate: separation=-1, expected .* at least 0"),
    ("simulate:overlap=0", r"simulate: overlap=0, expected between 0 and 1"),
    ("simulate:overlap=1", r"simulate: overlap=1, expected between 0 and 1"),
    ("simulate:overlap=nan", r"simulate: overlap=nan, expected between 0 and 1"),
    ("simulate:K=1,overlap=0.1", r"simulate: overlap: is of two or more .*K=1"),
    ("simulate:separation=4,overlap=0.1", r"separation and overlap: .* one of them"),
    ("simulate:K=2,K=3", r"simulate: K is given twice"),
    ("simulate:N=1000000000000", r"'simulate:N=1000000000000': needs more memory"),
]
"""What is given as data -> what is said of it."""

STREAMED = [
    ("nan.csv", r"unknown data to be streamed 'nan.csv'"),
    ("faithful", r"unknown data to be streamed 'faithful'"),
    ("short.npy", r"'short.npy': cannot be read as .npy"),
    ("columns.npy", r"'columns.npy': is stored column by column"),
    ("nan.npy", r"'nan.npy': nan at row 1, column 2"),
    ("flat.npy", r"'flat.npy': has 1 dimensions"),
    ("several.npy", r"'several.npy': .* several arrays"),
    ("fine.npy --devices 2", r"streamed rows cannot be shared"),
    ("fine.npy --held-out 1", r"held_out = 1: .* expected 0"),
]

SPECS = [
    # the file
    ("components = ", r"spec 'spec.toml': is not valid TOML: Invalid value"),
    ("a = 1\na = 2", r"is not valid TOML: Cannot overwrite"),
    (b"name = '\xff'", r"is not valid TOML: .*utf-8"),
    ("component = 3", r"unknown key 'component' in spec.*did you mean 'components'"),
    ("name = ''", r"name = '': expected"),
    ("name = '../elsewhere'", r"name = '../elsewhere': expected"),
    ("name = '/elsewhere'", r"name = '/elsewhere': expected"),
    ('name = "a\\u0000b"', r"name = 'a\\x00b': expected"),
    # numbers of the run
    ("components = 0", r"'spec.toml': components = 0: expected greater than or equal"),
    ("components = 2.5", r"components = 2.5: expected a valid integer"),
    ("components = '3'", r"components = '3': expected a number"),
    ("components = true", r"components = True: expected a number"),
    ("components = [2]", r"components = \[2\]: expected a valid integer"),
    ("seed = -1", r"seed = -1: expected greater than or equal to 0"),
    ("seed = 9223372036854775808", r"seed = 9223372036854775808: expected less"),
    ("held_out = -1", r"held_out = -1: expected"),
    ("precision = 16", r"precision = 16: expected 32 or 64"),
    ("device = 'cuda'", r"device = 'cuda': expected 'auto', 'cpu', 'gpu' or 'tpu'"),
    ("devices = 0", r"devices = 0: expected"),
    ("repeats = 0", r"repeats = 0: expected"),
    ("chains = 0", r"chains = 0: expected greater than or equal to 1"),
    ("draws = 0", r"draws = 0: expected greater than or equal to 4"),
    ("margin = nan", r"margin = nan: expected"),
    ("margin = 0.0", r"margin = 0.0: expected greater than 0"),
    ("sd_margin = 1.0", r"sd_margin = 1.0: expected less than 1"),
    ("stream = 'no'", r"stream = 'no': expected true or false"),
    ("data = 3", r"data = 3: expected a valid string"),
    ("data = 'iris'\nstandardise = 1", r"standardise = 1: expected true or false"),
    # models
    ("model = 3", r"model = 3: expected a valid dictionary"),
    ("model = {name = 'gausian'}", r"unknown model 'gausian': did you mean 'gaussian'"),
    ("model = {name = 3}", r"model = 3: expected a name"),
    ("model = {name = ['gaussian']}", r"model = \['gaussian'\]: expected a name"),
    ("model = {sigm = 1}", r"unknown key 'sigm' in model gaussian.*'sigma'"),
    ("model = {sigma = 0}", r"model gaussian: sigma = 0: expected greater than 0"),
    ("model = {sigma = -1.0}", r"sigma = -1.0: expected greater than 0"),
    ("model = {sigma = nan}", r"sigma = nan: expected a finite number"),
    ("model = {sigma = true}", r"sigma = True: expected a number"),
    ("model = {sigma = '2'}", r"sigma = '2': expected a number"),
    ("model = {variance = inf}", r"variance = inf: expected a finite number"),
    ("model = {mean = [0.0, nan]}", r"mean = \[0.0, nan\]: expected finite numbers"),
    ("model = {mean = [0.0, 1.0, 2.0]}", r"mean has 3 numbers.* 2 features"),
    ("model = {mean = []}", r"mean has 0 numbers.* 2 features"),
    (
        "model = {name = 'gaussian-full', degrees_of_freedom = 0.5}",
        r"degrees_of_freedom = 0.5: expected more than d - 1 = 1",
    ),
    (
        "model = {name = 'gaussian-full', scale = [[1.0, 2.0], [2.0, 1.0]]}",
        r"gaussian-full: scale is not a symmetric positive definite 2 x 2 matrix",
    ),
    (
        "model = {name = 'gaussian-full', scale = [[1.0, 0.5], [0.0, 1.0]]}",
        r"scale is not a symmetric positive definite 2 x 2 matrix",
    ),
    (
        "model = {name = 'gaussian-full', scale = [[1.0]]}",
        r"scale .* 2 features|scale is not a symmetric positive definite 2 x 2",
    ),
    (
        "model = {name = 'gaussian-full', scale = [[1.0, 0.0], [0.0]]}",
        r"scale is not a symmetric positive definite 2 x 2 matrix",
    ),
    (
        "model = {name = 'gaussian-full', scale = [[inf, 0.0], [0.0, inf]]}",
        r"scale = .*: expected finite numbers",
    ),
    (
        "model = {name = 'gaussian-diagonal', rate = [1.0, -1.0]}",
        r"rate = \[1.0, -1.0\]: expected greater than 0",
    ),
    ("model = {name = 'gaussian-spherical', kappa = 0}", r"kappa = 0: expected"),
    ("model = 'poisson'", r"3.6 at row 1, column 1.*counts 0, 1, 2"),
    ("model = 'bernoulli'", r"3.6 at row 1, column 1.*expected 0 or 1"),
    ("data = 'signs.csv'\nmodel = 'exponential'", r"-1 at line 1.*positive numbers"),
    ("model = {name = 'categorical', levels = 0}", r"levels = 0: expected"),
    (
        "data = 'codes.csv'\nmodel = {name = 'categorical', levels = 2}",
        r"codes under 2",
    ),
    (
        "data = 'codes.csv'\nmodel = {name = 'categorical', levels = [3, 3, 3]}",
        r"levels has 3 numbers.* 2 features",
    ),
    # weights
    ("weights = 'dirichlett'", r"unknown weights 'dirichlett': .*'dirichlet'"),
    ("weights = {name = 3}", r"weights = 3: expected a name"),
    ("weights = {name = 'dirichlet', concentration = 0}", r"concentration = 0: exp"),
    ("weights = {name = 'dirichlet', concentration = nan}", r"concentration = nan"),
    ("weights = {name = 'stick-breaking', concentration = -1}", r"= -1: expected"),
    ("weights = {name = 'stick-breaking', reorder = 3}", r"reorder = 3: expected"),
    ("weights = {name = 'uniform', concentration = 1}", r"unknown key 'concentration'"),
    # methods
    ("methods = {}", r"methods: none given"),
    ("methods = 'cavi'", r"methods = 'cavi': expected a valid dictionary"),
    ("methods = [3]", r"methods: 3 is not a method's name"),
    ("methods = ['cavi', 'cavi']", r"methods: 'cavi' is named twice"),
    ("methods = {cavi = 3}", r"cavi = 3: expected a valid dictionary"),
    ("methods = {nutz = {}}", r"unknown method 'nutz': did you mean 'nuts'"),
    ("methods = {cavi = {method = 3}}", r"method = 3: expected a name"),
    ("methods = {'a/b' = {method = 'cavi'}}", r"method label 'a/b': use letters"),
    (f"methods = {{{'a' * 65} = {{method = 'cavi'}}}}", r"64 at most"),
    ("reference = 'cav'", r"unknown reference 'cav' in methods: did you mean 'cavi'"),
    ("reference = 3", r"reference = 3: expected a valid string"),
    ("methods = {cavi = {restart = 3}}", r"unknown key 'restart'.*'restarts'"),
    ("methods = {cavi = {restarts = 0}}", r"method cavi: restarts = 0: expected"),
    ("methods = {cavi = {max_iterations = 0}}", r"cavi: max_iterations = 0: exp"),
    (
        "methods = {cavi = {tol = nan}}",
        r"methods.cavi.tol = nan: expected a finite number",
    ),
    ("methods = {cavi = {tol = -1e-9}}", r"cavi: tol = -1e-09: expected"),
    ("methods = {cavi = {tol = '1e-9'}}", r"cavi: tol = '1e-9': expected a number"),
    ("methods = {cavi = {accelerate = 1}}", r"accelerate = 1: expected true or false"),
    ("methods = {cavi = {start = 'random'}}", r"start = 'random': expected"),
    ("methods = {cavi = {start = 'nowhere.npz'}}", r"'nowhere.npz': there is no such"),
    ("methods = {cavi = {start = 'noise.npz'}}", r"'noise.npz': is not a checkpoint"),
    ("methods = {svi = {guide = 'rank'}}", r"svi: guide = 'rank': expected"),
    ("methods = {svi = {steps = 0}}", r"svi: steps = 0: expected greater than 0"),
    ("methods = {svi = {learning_rate = 0}}", r"learning_rate = 0: expected"),
    ("methods = {svi = {learning_rate = nan}}", r"learning_rate = nan: expected"),
    ("methods = {svi = {particles = 0}}", r"particles = 0: expected"),
    ("methods = {svi = {bound_draws = 1}}", r"bound_draws = 1: expected"),
    ("methods = {nuts = {warmup = 5}}", r"warmup = 5: expected"),
    ("methods = {nuts = {target_acceptance = 1.0}}", r"target_acceptance = 1.0: exp"),
    ("methods = {nuts = {max_tree_depth = 0}}", r"max_tree_depth = 0: expected"),
    ("methods = {gibbs = {thin = 0}}", r"gibbs: thin = 0: expected"),
    ("methods = {smc = {target_ess = 1.0}}", r"smc: target_ess = 1.0: expected"),
    ("methods = {nested = {live = 4}}", r"nested: live = 4: expected greater"),
    ("methods = {pathfinder = {paths = 0}}", r"pathfinder: paths = 0: expected"),
    ("methods = {stochastic-cavi = {forgetting = 0.5}}", r"forgetting = 0.5: expected"),
    ("methods = {exact = {draws = 9}}", r"unknown key 'draws' in method exact: known"),
]
"""A spec of the faithful data, in its file -> what is said of it."""

RUN = [
    ("", r"Missing argument 'spec'"),
    ("faithful more", r"unexpected extra argument.*more"),
    ("faithful --nope", r"No such option: --nope"),
    ("faithful --components", r"'--components' requires an argument"),
    ("faithfull", r"unknown experiment 'faithfull': did you mean 'faithful'"),
    ("nowhere.toml", r"spec 'nowhere.toml': there is no such file"),
    ("folder.toml", r"spec 'folder.toml': Is a directory"),
    ("faithful --components x", r"--components.*'x'"),
    ("faithful --components 2.5", r"--components.*'2.5'"),
    ("faithful --components 0", r"components = 0"),
    ("faithful --components 273", r"components = 273.* 272 rows"),
    ("faithful --held-out x", r"--held-out.*'x'"),
    ("faithful --held-out 272", r"0 rows when 272 are held out"),
    ("faithful --seed x", r"--seed.*'x'"),
    ("faithful --seed -1", r"seed = -1: expected"),
    ("faithful --precision 16", r"precision = 16"),
    ("faithful --precision x", r"--precision.*'x'"),
    ("faithful --device gpu", r"device 'gpu' is not here; JAX sees: cpu"),
    ("faithful --device cuda", r"device = 'cuda'"),
    ("faithful --devices 0", r"devices = 0"),
    ("faithful --devices x", r"--devices.*'x'"),
    ("faithful --repeats 0", r"repeats = 0"),
    ("faithful --repeats x", r"--repeats.*'x'"),
    ("faithful --weights dirichlett", r"unknown weights 'dirichlett'"),
    ("faithful --methods cavi,nutz", r"unknown method 'nutz': did you mean 'nuts'"),
    ("faithful --methods cavi,cavi", r"'cavi' is named twice"),
    ("faithful --methods ''", r"methods: '' is not a method's name"),
    ("faithful --methods cavi,", r"methods: '' is not a method's name"),
    ("faithful --reference x", r"unknown reference 'x'"),
    ("faithful --start-from nowhere.npz", r"'nowhere.npz': there is no such file"),
    ("faithful --start-from noise.npz", r"'noise.npz': is not a checkpoint"),
    ("faithful --start-from spec.txt", r"start = 'spec.txt'"),
    (
        "faithful --methods svi --start-from noise.npz",
        r"start from 'noise.npz': none of the methods svi starts",
    ),
    # where it goes
    ("faithful --out taken", r"'taken' exists; .*--overwrite"),
    ("faithful --out other", r"'other' exists"),
    ("faithful --out other --overwrite", r"'other' is not the folder of a run"),
    ("faithful --out link", r"'link' exists"),
    ("faithful --out link --overwrite", r"'link' is not the folder of a run"),
    ("faithful --out nothing --overwrite", r"'nothing' is not the folder of a run"),
    ("faithful --out file.txt", r"'file.txt' exists"),
    ("faithful --out file.txt/run", r"'file.txt/run' cannot be written"),
    ("faithful --out /proc/none/run", r"'/proc/none/run' cannot be written"),
    ("faithful --out .", r"'.' exists"),
    # several processes
    ("faithful --hosts x", r"--hosts.*'x'"),
    ("faithful --hosts 2", r"--coordinator, --rank, --out missing"),
    ("faithful --rank 1", r"--hosts, --coordinator, --out missing"),
    ("faithful --coordinator localhost:1", r"--hosts, --rank, --out missing"),
    (
        "faithful --hosts 1 --rank 0 --coordinator localhost:9 --out o",
        r"hosts = 1: expected at least 2",
    ),
    (
        "faithful --hosts 2 --rank 2 --coordinator localhost:9 --out o",
        r"rank = 2: expected 0 to 1 of 2",
    ),
    (
        "faithful --hosts 2 --rank -1 --coordinator localhost:9 --out o",
        r"rank = -1: expected 0 to 1 of 2",
    ),
    *(
        (
            f"faithful --hosts 2 --rank 1 --coordinator {place} --out o",
            rf"coordinator '{place}': expected HOST:PORT",
        )
        for place in ("localhost", ":9", "localhost:", "localhost:x", "localhost:70000")
    ),
    (
        "faithful --hosts 2 --rank 1 --coordinator localhost:² --out o",
        r"coordinator 'localhost:²': expected HOST:PORT",
    ),
    # models and methods by file
    ("faithful --model gausian", r"unknown model 'gausian': did you mean 'gaussian'"),
    ("faithful --model nowhere.py", r"model 'nowhere.py': cannot be read"),
    ("faithful --model folder.py", r"model 'folder.py': cannot be read"),
    ("faithful --model syntax.py", r"model 'syntax.py': cannot be read: .*line 2"),
    ("faithful --model raising.py", r"raising.py: cannot be loaded: KeyError: 'oops'"),
    ("faithful --model leaving.py", r"leaving.py: cannot be loaded: SystemExit: 3"),
    ("faithful --model bare.py", r"model 'bare.py': defines no MODEL"),
    ("faithful --model number.py", r"model 'number.py': defines no MODEL"),
    ("faithful --model plain.py", r"model 'plain.py': MODEL .* is not a dataclass"),
    ("faithful --model other.py", r"model 'other.py': defines no MODEL"),
    (
        "faithful --model swapped.py",
        r"model 'swapped.py': MODEL is Exact, which has no",
    ),
    ("faithful --model clash/gaussian.py", r"model 'gaussian': .* the same name"),
    ("faithful --model nul.py", r"model 'nul.py': cannot be read"),
    ("faithful --models nowhere", r"models 'nowhere': is not a folder"),
    ("faithful --models folder", r"models 'folder': has no .py files"),
    ("faithful --models clash", r"model 'gaussian': .* the same name"),
    ("faithful --method nowhere.py", r"method 'nowhere.py': cannot be read"),
    ("faithful --method syntax.py", r"method 'syntax.py': cannot be read"),
    ("faithful --method raising.py", r"raising.py: cannot be loaded: KeyError"),
    ("faithful --method bare.py", r"method 'bare.py': defines no METHOD"),
    ("faithful --method half.py", r"method 'half.py': METHOD .* has no 'outcome'"),
    ("faithful --method cavi.py", r"method 'cavi': .* the same name"),
]

COMPARE = [
    ("", r"Missing argument 'draws'"),
    ("a.nc b.nc", r"--reference: is not given; expected the name of one .*: a, b"),
    ("a.nc reference:velocitie", r"unknown reference .*did you mean .velocities.\?"),
    ("a.nc nowhere.nc --reference a", r"draws 'nowhere.nc': there is no such file"),
    ("a.nc short.nc --reference a", r"draws 'short.nc': cannot be read"),
    ("a.nc noise.nc --reference a", r"draws 'noise.nc': not an HDF5 file"),
    ("a.nc prior.nc --reference a", r"no posterior group; .*found the groups: prior"),
    ("a.nc hollow.nc --reference a", r"the posterior group holds no variables"),
    ("a.nc nan.nc --reference a", r"'mu' is not finite in chain 0, draw 3"),
    ("a.nc three.nc --reference a", r"'mu' is of 2 components in a and .* 3 .* three"),
    ("a.nc folder.nc --reference a", r"draws 'folder.nc': holds no draws"),
    ("a.nc file.txt --reference a", r"draws 'file.txt': unknown kind of file"),
    ("a.nc short.json --reference a", r"draws 'short.json': not JSON"),
    ("a.nc spec.json --reference a", r"draws 'spec.json': no list of chains"),
    ("a.nc words.json --reference a", r"'mu' of chain 1 is not a list of numbers"),
    ("a.nc noise.zip --reference a", r"draws 'noise.zip': not a zip"),
    ("a.nc a.nc --reference a", r"the same draws are named twice: 'a.nc'"),
    ("a.nc ./a.nc --reference a.nc", r"the same draws are named twice: './a.nc'"),
    ("a.nc --reference a", r"only 'a'.*expected at least two"),
    ("a.nc b.nc --reference c", r"unknown reference 'c' in the draws.*known: a, b"),
    ("a.nc b.nc --reference a --variables nu", r"unknown variable 'nu'.* known: mu"),
    ("a.nc b.nc --reference a --variables ''", r"unknown variable ''"),
    ("a.nc b.nc --reference a --weight w", r"unknown variable 'w'"),
    ("a.nc b.nc --reference a --component-dim k", r"no variable has the dimension 'k'"),
    ("a.nc b.nc --reference a --margin x", r"--margin.*'x'"),
    ("a.nc b.nc --reference a --margin 0", r"margin = 0.0: expected a number between"),
    ("a.nc b.nc --reference a --margin nan", r"margin = nan: expected"),
    ("a.nc b.nc --reference a --sd-margin -1", r"sd_margin = -1.0: expected"),
    ("a.nc b.nc --reference a --out file.txt", r"file.txt exists"),
    ("a.nc b.nc --reference a --out nowhere/o.json", r"nowhere/o.json: No such file"),
]

VERIFY = [
    ("", r"Missing argument 'method'"),
    ("nowhere.py:f", r"nowhere.py: cannot be read: No such file"),
    ("folder.py:f", r"folder.py: cannot be read: Is a directory"),
    ("bare.py", r"unknown method 'bare.py'.*path/to/file.py:function"),
    ("bare.py:", r"'bare.py:': expected path/to/file.py:function"),
    ("bare.py:fit", r"bare.py: has no function 'fit'"),
    ("number.py:MODEL", r"number.py: 'MODEL' is no function"),
    ("syntax.py:fit", r"syntax.py: cannot be loaded: SyntaxError"),
    ("raising.py:fit", r"raising.py: cannot be loaded: KeyError: 'oops'"),
    ("leaving.py:fit", r"leaving.py: cannot be loaded: SystemExit: 3"),
    ("functions.py:two", r"two\(a, b\): expected the arguments"),
    ("functions.py:four --families gaussian", r"families: .*four arguments"),
    ("cavvi", r"unknown method 'cavvi': did you mean 'cavi'"),
    ("cavi --families gausian", r"unknown model 'gausian'"),
    ("cavi --families ''", r"unknown model ''"),
    ("cavi --seed x", r"--seed.*'x'"),
    ("cavi --seed -1", r"seed = -1: expected at least 0"),
    ("cavi --limit x", r"--limit.*'x'"),
    ("cavi --limit 0", r"limit = 0.0: expected seconds over 0"),
    ("cavi --limit nan", r"limit = nan: expected seconds over 0"),
]

CALIBRATE = [
    ("gausian", r"unknown model 'gausian': did you mean 'gaussian'"),
    ("nowhere.toml", r"spec 'nowhere.toml': there is no such file"),
    ("nowhere.py", r"model 'nowhere.py': cannot be read"),
    ("bare.py", r"model 'bare.py': defines no MODEL"),
    ("gaussian --methods nutz", r"unknown method 'nutz'"),
    ("gaussian --methods cavi,cavi", r"'cavi' is named twice"),
    ("gaussian --methods ''", r"methods: '' is not a method's name"),
    ("gaussian --weights x", r"unknown weights 'x'"),
    ("gaussian --set sigma", r"--set sigma: expected name=value"),
    ("gaussian --set =3", r"--set =3: expected name=value"),
    ("gaussian --set sigma=wide", r"--set sigma=wide: expected name=value"),
    ("gaussian --set sigm=3", r"unknown key 'sigm' in model gaussian.*'sigma'"),
    ("gaussian --set sigma=nan", r"sigma = nan: expected a finite number"),
    ("gaussian --set sigma=0", r"sigma = 0: expected greater than 0"),
    ("gaussian --set sigma=true", r"sigma = True: expected a number"),
    ("gaussian --set name='\"poisson\"'", r"--set name=.*: expected a hyperparameter"),
    ("gaussian --set mean=[1.0,2.0]", r"mean has 2 numbers.* 1 features"),
    ("gaussian --set sigma=1 --set sigma=2", r"--set sigma=2: sigma is given twice"),
    ("gaussian --sims 0", r"calibrate: sims = 0: expected"),
    ("gaussian --fit mine.py:f", r"--fit mine.py:f: is a fit of a NumPyro model, and"),
    ("gaussian --components 0", r"components = 0: expected"),
    ("gaussian --rows 0", r"rows = 0: expected"),
    ("gaussian --features 0", r"features = 0: expected"),
    ("gaussian --draws 0", r"draws = 0: expected"),
    ("gaussian --thin 0", r"thin = 0: expected"),
    ("gaussian --geweke -1", r"geweke = -1: expected"),
    ("gaussian --turns 0", r"turns = 0: expected"),
    ("gaussian --level 0", r"level = 0.0: expected"),
    ("gaussian --level nan", r"level = nan: expected"),
    ("gaussian --seed -1", r"seed = -1: expected"),
    ("gaussian --chunk 0", r"chunk = 0: expected"),
    ("gaussian --threads 0", r"--threads.*'0'"),
    *(
        (f"gaussian --{option} x", rf"--{option}.*'x'")
        for option in ("sims", "rows", "features", "draws", "thin", "level", "chunk")
    ),
    ("gaussian --out file.txt", r"'file.txt' is not a folder"),
    ("gaussian --out other", r"'other' is not the folder of a calibration"),
    ("gaussian --out begun", r"'begun' was begun with"),
    ("gaussian --out file.txt/c", r"'file.txt/c' .*cannot be written"),
    ("gaussian --out link", r"'link' is not a folder|'link' is not the folder"),
]

GRIDS = [
    (b"name = '\xff'", r"sweep 'spec.toml': is not valid TOML"),
    ("name = 1", r"sweep 'spec.toml': name = 1: expected"),
    ("base = 1", r"sweep 'spec.toml': base = 1: expected"),
    ("[grid]\n'model..sigma' = [1]", r"'model..sigma': a part of the name is empty"),
    ("[grid]\n'methods.cavy.tol' = [1]", r"unknown method 'cavy': did you mean"),
    ("[grid", r"sweep 'spec.toml': is not valid TOML"),
    ("[grid]\nseed = 3", r"grid.*seed = 3: expected a valid list"),
    ("grid = 3", r"grid = 3: expected"),
    ("[grid]\nseed = []", r"grid: seed = \[\]: expected some values"),
    ("[grids]\nseed = [0]", r"unknown key 'grids' in sweep.*did you mean 'grid'"),
    ("[grid]\nseeds = [0]", r"unknown field 'seeds' in .*grid: did you mean 'seed'"),
    ("[grid]\nseed = [0, 0]", r"grid: seed: a value is there twice"),
    ("[grid]\nname = ['a']", r"unknown field 'name'"),
    ("[grid]\nseed = [0, -1]", r"seed = -1: seed = -1: expected"),
    ("[grid]\n'seed.x' = [1]\n[base]\nseed = 3", r"seed = 3: expected a table"),
    ("[base]\ncomponets = 2", r"unknown key 'componets'"),
    ("[base]\ndata = 'nowhere.csv'", r"data 'nowhere.csv': there is no such file"),
    ("[base]\ndata = 'nan.csv'", r"nan at line 3, column 1"),
    ("[grid]\n'model.sigma' = [1.0, nan]", r"model.sigma = .*: expected finite"),
    ("[grid]\nseed = [1]\nseed = [2]", r"is not valid TOML: Cannot overwrite"),
    ("[grid]\nseed = [0]\n[[exclude]]", r"an \[\[exclude\]\] is empty"),
    ("[grid]\nseed = [0]\n[[exclude]]\nseed = 2", r"exclude: seed = 2 is not in the"),
    ("[grid]\nseed = [0]\n[[exclude]]\nsed = 0", r"unknown field 'sed'"),
    ("[grid]\nseed = [0]\n[[exclude]]\nseed = 0", r"every combination is excluded"),
    ("name = '../elsewhere'\n[grid]\nseed = [0]", r"name = '../elsewhere': expected"),
    (
        f"[grid]\nseed = {list(range(1001))}\ndraws = {list(range(4, 1004))}",
        r"1001000 combinations, the most are 1000000",
    ),
    (
        "[base]\nmodel = {name = 'gaussian', sigma = -1.0}\n[grid]\nseed = [0, 1]",
        r"sweep 'spec', seed = 0: model gaussian: sigma = -1.0: expected",
    ),
    (
        "[grid]\ncomponents = [2, 83]\ndata = ['faithful', 'galaxies']",
        r"components = 83, data = galaxies: components = 83, the data .* 82 rows",
    ),
    (
        "[grid]\n'methods.cavi.restarts' = [1, 0]",
        r"methods.cavi.restarts = 0: method cavi: restarts = 0: expected",
    ),
    (
        "[base]\nmodel = 'poisson'\n[grid]\ndata = ['faithful']",
        r"data = faithful: .*poisson.* whole numbers|counts",
    ),
]

SWEEP = [
    ("nowhere.toml", r"sweep 'nowhere.toml': there is no such file"),
    ("folder.toml", r"sweep 'folder.toml': Is a directory"),
    ("grid.toml --shard 0/3", r"shard 0/3: expected 1/3 to 3/3"),
    ("grid.toml --shard 4/3", r"shard 4/3: expected 1/3 to 3/3"),
    ("grid.toml --shard 1/0", r"shard 1/0: expected"),
    ("grid.toml --shard x", r"shard 'x': expected i/n, as in 1/4"),
    ("grid.toml --shard -1/3", r"shard '-1/3': expected i/n"),
    ("grid.toml --shard 1/²", r"shard '1/²': expected i/n"),
    ("grid.toml --jobs 0", r"jobs = 0: expected at least 1"),
    ("grid.toml --jobs x", r"--jobs.*'x'"),
    ("grid.toml --jobs 2 --timed", r"jobs = 2: .*--timed.* one cell at a time"),
    ("grid.toml --cell-timeout 0", r"cell timeout = 0.0: expected seconds over 0"),
    ("grid.toml --cell-timeout nan", r"cell timeout = nan: expected seconds over 0"),
    ("grid.toml --cell-timeout x", r"--cell-timeout.*'x'"),
    ("grid.toml --models nowhere", r"models 'nowhere': is not a folder"),
    ("grid.toml --method bare.py --dry-run", r"method 'bare.py': defines no METHOD"),
    ("grid.toml --out other", r"folder 'other' holds something else"),
    ("grid.toml --out file.txt", r"folder 'file.txt' cannot be written: File exists"),
    ("grid.toml --jobs 2 --scheduler tcp://x:1", r"jobs = 2: a cluster's size is its"),
    ("grid.toml --out newer", r"'newer' has schema 2, this vi-bench reads 1"),
]

STORES = [
    *(
        (f"{command} {folder}", said)
        for command in ("status", "query", "reindex")
        for folder, said in (
            ("nowhere", r"'nowhere' is not the folder of a sweep"),
            ("other", r"'other' is not the folder of a sweep: it has no STORE.json"),
            ("file.txt", r"'file.txt' is not the folder of a sweep"),
            ("newer", r"'newer' has schema 2, this vi-bench reads 1"),
            ("spoilt", r"'spoilt': STORE.json cannot be read"),
            ("partial", r"'partial': .*cells is not a folder"),
        )
    ),
    *(
        (f'query store "{sql}"', said)
        for sql, said in (
            ("", r"query '': expected a SELECT"),
            ("SELECT", r"query 'SELECT': incomplete input"),
            ("SELECT seeds FROM cells", r"no such column: seeds"),
            ("SELECT * FROM cell", r"no such table: cell"),
            ("SELECT 1; SELECT 2", r"one statement at a time"),
            ("DELETE FROM cells", r"attempt to write a readonly database"),
            ("INSERT INTO cells (key) VALUES (1)", r"readonly database"),
            ("DROP TABLE cells", r"readonly database"),
            ("CREATE TABLE t (x)", r"readonly database"),
            ("CREATE TEMP TABLE t (x)", r"readonly database|expected a SELECT"),
            ("PRAGMA user_version = 3", r"readonly database|expected a SELECT"),
            ("ATTACH 'made.db' AS o", r"too many attached databases"),
            ("VACUUM INTO 'made.db'", r"query .*VACUUM"),
            ("SELECT load_extension('./a')", r"not authorized|no such function"),
            ("SELECT ?", r"query 'SELECT \?': "),
        )
    ),
]

RERUN = [
    ("nowhere", r"run 'nowhere': summary.json: No such file"),
    ("file.txt", r"run 'file.txt': summary.json: Not a directory"),
    ("old/broken", r"run 'old/broken': summary.json is not JSON"),
    ("old/list", r"run 'old/list': has schema None, expected 2"),
    ("old/newer", r"run 'old/newer': has schema 999, expected 2"),
    (
        "old/partial",
        r"summary.json lacks reference, note, comparisons, joint, verdicts, ",
    ),
    ("old/plugged", r"method 'mine' of this run came from mine.py: .*--method FILE"),
    ("old/partial --method nowhere.py", r"method 'nowhere.py': cannot be read"),
]

REPORT = [
    ("nowhere", r"run 'nowhere': summary.json: No such file"),
    ("file.txt", r"run 'file.txt': summary.json: Not a directory"),
    ("old/broken", r"run 'old/broken': summary.json is not JSON"),
    ("old/newer", r"run 'old/newer': has schema 999, expected 2"),
    (
        "old/partial",
        r"summary.json lacks reference, note, comparisons, joint, verdicts, ",
    ),
    ("old/two", r"summary.json: is not as schema 2 has it .KeyError: 'methods'"),
    ("old/hollow", r"'old/hollow': its files are not as schema 3 has them"),
    ("old/hollow --latex table.txt", r"'table.txt' is a file; expected a folder"),
    ("old/hollow --tables made", r"'old/hollow': its files are not as schema 3"),
    ("old/hollow --out old", r"--out 'old' is a folder; expected a file's name"),
    ("", r"Missing argument 'folder'"),
]

OTHER = [
    ("sweeps", r"No such command 'sweeps'.*'sweep'"),
    ("--nope", r"No such option: --nope"),
    ("list", r"Missing argument 'what'"),
    ("list model", r"unknown list 'model': did you mean 'models'"),
    ("list models --models nowhere", r"models 'nowhere': is not a folder"),
    ("list models --json=yes", r"'--json' does not take a value"),
    ("query store 'SELECT 1' --csv --json", r"--csv, --json: expected one of them"),
    ("doctor now", r"unexpected extra argument.*now"),
]

ROWS = [
    *((f"run faithful --data {data}", said, "") for data, said in DATA),
    *((f"run faithful --stream --data {data}", said, "") for data, said in STREAMED),
    *(("run spec.toml", said, text) for text, said in SPECS),
    *((f"run {given}", said, "") for given, said in RUN),
    *((f"compare {given}", said, "") for given, said in COMPARE),
    *((f"verify {given}", said, "") for given, said in VERIFY),
    *((f"calibrate {given}", said, "") for given, said in CALIBRATE),
    *(("sweep spec.toml", said, text) for text, said in GRIDS),
    *((f"sweep {given}", said, "") for given, said in SWEEP),
    *(
        (
            given
            if "query store" in given or not given.startswith("query")
            else f"{given} 'SELECT 1'",
            said,
            "",
        )
        for given, said in STORES
    ),
    *((f"rerun {given}", said, "") for given, said in RERUN),
    *((f"report {given}", said, "") for given, said in REPORT),
    *((given, said, "") for given, said in OTHER),
]


def summary(**known):
    """A summary.json, parts of it replaced."""
    return json.dumps(record(**known))


TEXTS = {
    "empty.csv": "",
    "names.csv": "a,b\n",
    "nan.csv": "a\n1\nnan\n3\n",
    "nans.csv": "a,b\n1,2\n\nnan,4\n5,inf\n",
    "inf.csv": "1,2\n3,-inf\n",
    "short.csv": "1,2\n3\n",
    "long.csv": "a,b\n1,2,3\n",
    "missing.csv": "1,2\n3,\n",
    "text.csv": "a,b\n1,x\n",
    "grouped.csv": "1\n1_000\n",
    "twice.csv": "a,a\n1,2\n",
    "huge.csv": "1\n1e200\n",
    "endless.csv": '"' + "1" * 200_000 + '"\n',
    "signs.csv": "-1\n1\n2\n",
    "codes.csv": "u,v\n0,1\n1,2\n1,0\n",
    "table.dat": "1\n2\n",
    "table.txt": "1\n2\n",
    "file.txt": "",
    "spec.txt": "components = 2\n",
    "file.zarr": "",
    "short.json": '[{"mu[1]": [1.0',
    "spec.json": "{}",
    "words.json": '[{"mu": ["a", "b"]}]',
    "grid.toml": "[base]\nmethods = ['cavi']\n[grid]\nseed = [0, 1, 2]\n",
    "bare.py": '"""Nothing."""\n',
    "syntax.py": '"""Wrong."""\ndef f(:\n',
    "raising.py": "MODEL = METHOD = None\nraise KeyError('oops')\n",
    "leaving.py": "MODEL = None\nraise SystemExit(3)\n",
    "number.py": "MODEL = 3\n",
    "plain.py": "class MODEL:\n    pass\n",
    "nul.py": "a\0b",
    "other.py": "from vi_bench.methods.exact import METHOD\n",
    "swapped.py": "from vi_bench.methods.exact import Exact\nMODEL = Exact\n",
    "cavi.py": "from vi_bench.methods.exact import Exact as METHOD\n",
    "half.py": "from dataclasses import dataclass\n@dataclass(frozen=True)\n"
    "class METHOD:\n    kind = 'mcmc'\n    def prepare(self, problem, key):\n"
    "        return ()\n",
    "functions.py": "def two(a, b): ...\ndef four(data, K, sigma, seed): ...\n",
    "clash/gaussian.py": "from vi_bench.models.gaussian import Gaussian as MODEL\n",
    "taken/summary.json": "{}",
    "other/mine.txt": "",
    "old/broken/summary.json": "{",
    "old/list/summary.json": "[]",
    "old/newer/summary.json": '{"schema": 999}',
    "old/partial/summary.json": '{"schema": 3, "spec": {}}',
    "old/two/summary.json": '{"schema": 2, "spec": {}}',
    "old/hollow/summary.json": summary(model={}, environment={}),
    "old/plugged/summary.json": summary(
        plugins=[{"kind": "method", "name": "mine", "origin": "mine.py", "sha256": ""}]
    ),
    "newer/STORE.json": '{"vi_bench": "sweep", "schema": 2}',
    "spoilt/STORE.json": '{"vi_bench"',
    "partial/STORE.json": '{"vi_bench": "sweep", "schema": 1}',
    "begun/settings.json": '{"sims": 40}',
}

FOLDERS = [
    *("folder", "folder.csv", "folder.npy", "folder.parquet", "folder.toml"),
    *("folder.py", "folder.nc"),
]


class Canary:
    """Whoever unpickles it has made a file."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def numbers(folder):
    """Arrays, tables and draws that are wrong, or fine but for what is asked."""
    rows = np.arange(6.0).reshape(3, 2)
    nan, inf = rows.copy(), rows.copy()
    nan[0, 1], inf[1, 0] = np.nan, np.inf
    for name, values in {
        "fine": rows,
        "nan": nan,
        "inf": inf,
        "empty": rows[:0],
        "narrow": rows[:, :0],
        "number": np.float64(3.0),
        "flat": rows[:, 0],
        "deep": rows[None],
        "columns": np.asfortranarray(rows),
        "text": np.array([["a"]]),
        "truth": np.array([[True]]),
        "complex": rows + 1j,
        "dates": np.array([["2020-01-01"]], "datetime64[D]"),
        "fields": np.zeros(3, [("a", float)]),
    }.items():
        np.save(folder / f"{name}.npy", values)
    pickled = np.array([[Canary()]], object)
    np.save(folder / "pickled.npy", pickled, allow_pickle=True)
    whole = (folder / "fine.npy").read_bytes()
    (folder / "bare.npy").write_bytes(whole[:6])
    (folder / "short.npy").write_bytes(whole[:-8])
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (549755813888, 2), }"
    size = int.from_bytes(whole[8:10], "little")
    start = whole[:10] + header.ljust(size - 1) + b"\n"
    (folder / "endless.npy").write_bytes(start + whole[10 + size :])
    np.savez(folder / "several.npz", a=rows)
    (folder / "several.npz").rename(folder / "several.npy")
    noise = bytes(range(256)) * 4
    for name in ("noise.npy", "noise.npz", "noise.nc", "noise.zip"):
        (folder / name).write_bytes(noise)
    (folder / "utf16.csv").write_bytes("1,2\n".encode("utf-16"))
    (folder / "binary.csv").write_bytes(b"\x00,\x01\n\x02,\x03\n")


def parquet(folder):
    import pyarrow as pa
    from pyarrow.parquet import write_table

    for name, table in {
        "nan": pa.table({"a": [1.0, np.nan]}),
        "null": pa.table({"a": [1, 2], "b": [1.0, None]}),
        "text": pa.table({"a": ["x"]}),
        "truth": pa.table({"a": [True]}),
        "empty": pa.table({"a": pa.array([], pa.float64())}),
        "narrow": pa.table({}),
        "twice": pa.table([[1.0], [2.0]], names=["a", "a"]),
        "short": pa.table({"a": [1.0]}),
    }.items():
        write_table(table, folder / f"{name}.parquet")
    whole = (folder / "short.parquet").read_bytes()
    (folder / "short.parquet").write_bytes(whole[:-8])


def zarrs(folder):
    import zarr

    rows = np.arange(6.0).reshape(3, 2)
    nan = rows.copy()
    nan[1, 1] = np.nan
    arrays = {"nan": nan, "flat": rows[:, 0], "truth": rows > 2, "short": rows}
    for name, values in arrays.items():
        zarr.save_array(folder / f"{name}.zarr", values)
    zarr.open_group(folder / "group.zarr", mode="w")
    chunks = [p for p in (folder / "short.zarr" / "c").rglob("*") if p.is_file()]
    for chunk in chunks:
        chunk.write_bytes(chunk.read_bytes()[:-4])


def draws(folder):
    import xarray as xr

    def made(name, components=2, group="posterior", bad=False, empty=False):
        values = np.random.default_rng(0).normal(size=(2, 20, components))
        if bad:
            values[0, 3, 1] = np.nan
        mu = xr.DataArray(values, dims=("chain", "draw", "component"))
        dataset = xr.Dataset({} if empty else {"mu": mu})
        tree = xr.DataTree.from_dict({group: dataset})
        tree.to_netcdf(folder / name, engine="h5netcdf")

    made("a.nc")
    made("b.nc")
    made("three.nc", components=3)
    made("nan.nc", bad=True)
    made("prior.nc", group="prior")
    made("hollow.nc", empty=True)
    (folder / "short.nc").write_bytes((folder / "a.nc").read_bytes()[:1000])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of files that are wrong each in its own way."""
    folder = tmp_path_factory.mktemp("place")
    for name in FOLDERS:
        (folder / name).mkdir()
    for name, text in TEXTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    numbers(folder)
    parquet(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zarr's, on what it will be one day
        zarrs(folder)
    draws(folder)
    (folder / "link").symlink_to("taken")
    (folder / "nothing").symlink_to("nowhere")
    refresh(Store(folder / "store"))
    return folder


def snapshot(folder):
    """Names, kinds and bytes of all there is."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kind = stat.S_IFMT(path.lstat().st_mode)
        content = path.readlink() if path.is_symlink() else None
        if path.is_file() and content is None:
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = kind, content
    return found


@pytest.fixture
def nothing_runs(monkeypatch):
    """What is to be refused must not compute first."""
    from vi_bench.calibration import study
    from vi_bench.runner import inquiry as runner
    from vi_bench.sweeps import work
    from vi_bench.sweeps.crew import Crew
    from vi_bench.verification import answer, plain

    def run(*_, **__):
        pytest.fail("it was not refused")

    monkeypatch.setattr(runner, "infer", run)
    monkeypatch.setattr(study, "study", run)
    monkeypatch.setattr(answer, "call", run)
    monkeypatch.setattr(plain, "call", run)
    monkeypatch.setattr(Crew, "each", run)
    monkeypatch.setattr(Crew, "ask", lambda _, question: work.answer(question))


@pytest.mark.parametrize(("command", "said", "spec"), ROWS)
def test_it_is_refused_in_one_line(
    place, nothing_runs, monkeypatch, command, said, spec
):
    monkeypatch.chdir(place)
    if isinstance(spec, str) and command.startswith("run") and "data" not in spec:
        spec = f"data = 'faithful'\n{spec}"
    text = spec if isinstance(spec, bytes) else spec.encode()
    (place / "spec.toml").write_bytes(text)
    before = snapshot(place)
    found = CliRunner().invoke(app, shlex.split(command))
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 2, found.output
    assert found.stdout == ""
    (line,) = found.stderr.splitlines()
    assert line.startswith("vi-bench: ")
    assert re.search(said, line), line
    assert (ROOT / re.search(r" \((docs/\w+\.md)\)$", line)[1]).is_file(), line
    assert snapshot(place) == before


def python_rows():
    """What only Python can give."""
    import pandas as pd
    from scipy import sparse

    rows = np.arange(6.0).reshape(3, 2)
    missing = pd.DataFrame({"a": [1, 2, None], "b": [1, 2, 3]}, dtype="Int64")
    masked = np.ma.masked_array(rows, mask=rows == 3)
    return [
        (masked, r"masked values, 1 in all, the first at \(2, 2\)"),
        (rows.astype(object), r"holds object values, expected real numbers"),
        ([[1.0, "a"]], r"holds <U32 values"),
        ([[1.0, None]], r"holds object values"),
        (None, r"holds object values"),
        ([[1, 2], [3]], r"rows differ in length"),
        (sparse.csr_array(rows), r"is sparse, expected a dense array"),
        (missing, r"'array': .* values, expected real numbers"),
        (pd.DataFrame({"a": ["x"]}), r"holds object values|holds str values"),
        (3.0, r"has 0 dimensions"),
        (rows[None], r"has 3 dimensions, expected rows x features"),
        (rows + 0j, r"holds complex128 values"),
        (rows > 2, r"holds bool values"),
        (rows[:0], r"is empty, shape \(0, 2\)"),
        ({1.0, 2.0}, r"holds object values"),
    ]


@pytest.mark.parametrize(("data", "said"), python_rows())
def test_arrays_that_are_no_rows_of_numbers(nothing_runs, data, said):
    for use in (vb.load, lambda data: vb.run("gaussian", data, ["cavi"])):
        with pytest.raises(InputError, match=said) as refused:
            use(data)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": 3}, r"model 3: expected a name, a mapping, settings or a"),
        ({"model": {"name": "gaussian", "sigma": np.nan}}, r"sigma = nan: expected"),
        ({"methods": "cavi"}, r"methods = 'cavi': expected a list"),
        ({"methods": {"cavi": 3}}, r"3 is neither a name nor settings"),
        ({"methods": [int]}, r"methods: .*int.* is neither a name nor settings"),
        ({"methods": [3]}, r"methods: 3 is neither a name nor settings"),
        ({"components": True}, r"components = True: expected a number"),
        ({"components": "2"}, r"components = '2': expected a number"),
        ({"componets": 2}, r"unknown key 'componets' in run\(\)"),
        ({"seed": 2**40, "precision": 32}, r"seed = .*less than 2\^32"),
    ],
)
def test_calls_from_python_are_checked_too(nothing_runs, given, said):
    fields = {"model": "gaussian", "methods": ["cavi"]} | given
    with pytest.raises(InputError, match=said) as refused:
        vb.run(data=np.arange(6.0).reshape(3, 2), **fields)
    assert "\n" not in str(refused.value)


def test_pickles_are_never_loaded(place):
    """The row of the pickled array above must have had something to catch."""
    assert b"mkdir" in (place / "pickled.npy").read_bytes()
    assert not (place / "unpickled").exists()


def test_a_mark_of_byte_order_is_read_and_not_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_bytes("\ufeffa,b\n1,2\n".encode())
    assert vb.load("a.csv").features == ("a", "b")
    (tmp_path / "a.toml").write_bytes("\ufeffcomponents = 5\n".encode())
    assert vb.read("a.toml", {}).components == 5
