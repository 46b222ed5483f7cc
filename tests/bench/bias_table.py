"""Group metrics of a table beside the peers: `python tests/bench/bias_table.py ROOT [--bootstrap] [--large]`.

ROOT holds data/bias/{adult,compas} of the shared files. Every row is a process of its own. "Call" is the
user + system time of all its threads from a table in memory to the numbers, with the encoding of
strings and all that a tool imports as it goes; imports at its head and reading the file are left out.
"Process" is everything. Peak memory is of the whole process. --bootstrap adds fairlearn with ten replicates
(minutes), --large ten million rows. Peers that are not installed are named and left out.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

METRICS = {
    "accuracy": "accuracy",
    "precision": "positive_predictive_value",
    "selection_rate": "selection_rate",
    "tpr": "true_positive_rate",
    "fpr": "false_positive_rate",
    "fnr": "false_negative_rate",
}
"""Six rates, as they are called here and by ours."""
Numbers = dict[str, dict[str, float | None]]
"""The six rates of every group; the name of an intersection joins its values with |."""
REPLICATES = 2000
SEED = 7


def make(path: Path, rows: int) -> None:
    """Labels and decisions as int8 and two columns of five names, of unequal groups."""
    import numpy
    import pyarrow
    from pyarrow import parquet

    rng = numpy.random.default_rng(SEED)
    a = rng.choice(5, rows, p=[0.45, 0.25, 0.15, 0.10, 0.05]).astype(numpy.int8)
    b = rng.choice(5, rows, p=[0.30, 0.25, 0.20, 0.15, 0.10]).astype(numpy.int8)
    merit = rng.normal(size=rows) + 0.15 * a - 0.1 * b
    label = merit + rng.normal(size=rows) > 0.4
    decision = merit + 0.7 * rng.normal(size=rows) - 0.1 * a > 0.2
    columns = {"label": label.view(numpy.int8), "decision": decision.view(numpy.int8)}
    for name, codes in (("A", a), ("B", b)):
        names = pyarrow.array([f"{name.lower()}{place}" for place in range(5)])
        columns[name] = pyarrow.DictionaryArray.from_arrays(pyarrow.array(codes), names)
    parquet.write_table(pyarrow.table(columns), path)


def adult(root: Path, path: Path) -> None:
    """UCI Adult; the decision is that somebody has at least a bachelor's degree."""
    import pandas

    rows = pandas.read_csv(
        root / "data" / "bias" / "adult" / "adult.data", header=None, skipinitialspace=True
    )
    table = {"label": rows[14] == ">50K", "decision": rows[4] >= 13, "A": rows[9], "B": rows[8]}
    _write(table, path)


def compas(root: Path, path: Path) -> None:
    """ProPublica's COMPAS; a decile score from 5 on is "medium or high"."""
    import pandas

    rows = pandas.read_csv(root / "data" / "bias" / "compas" / "compas-scores-two-years.csv")
    table = {
        "label": rows["two_year_recid"] == 1,
        "decision": rows["decile_score"] >= 5,
        "A": rows["race"],
        "B": rows["sex"],
    }
    _write(table, path)
    rows.assign(decision=table["decision"].astype(int)).to_csv(
        path.with_suffix(".csv"), index=False
    )


def _write(table: dict[str, Any], path: Path) -> None:
    import pandas

    frame = pandas.DataFrame(table).astype({"label": "int8", "decision": "int8"})
    frame.to_parquet(path, index=False)


# the tools: each imports what it needs, and gives back how to read a file and what is measured


def ours(form: str, intervals: str = "") -> Callable[[], tuple[Any, Any]]:
    """form: arrow (columns of text), dictionary, or pandas. intervals: audit, percentile, bca or none."""

    def imports() -> tuple[Any, Any]:
        import numpy
        import pyarrow
        from pyarrow import parquet

        from assaymark.bias import check, groups, predictions
        from assaymark.bias.counts import Sums, hits_and_n, tally
        from assaymark.bias.resample import bootstrap_intervals, resample

        def read(path: Path) -> Any:
            table = parquet.read_table(path)
            if form == "dictionary":
                return table
            for place, name in enumerate(table.column_names):
                if pyarrow.types.is_dictionary(table.schema.field(name).type):
                    table = table.set_column(place, name, table[name].cast(pyarrow.string()))
            return table.to_pandas() if form == "pandas" else table

        def share(name: str, cells: Sums) -> Any:
            hits, n = hits_and_n(cells, name)
            with numpy.errstate(invalid="ignore"):
                return hits / n

        def call(table: Any, columns: list[str]) -> Numbers:
            data = predictions.load(
                table,
                label="label",
                prediction="decision",
                score=None,
                sensitive=tuple(columns),
                intersections=len(columns) > 1,
            )
            attribute = data.crossed or columns[0]
            if intervals == "audit":
                check.check_bias_table("bench", data)
            elif intervals:
                cells = tally(data.groups[attribute], data).sums
                shares = [partial(share, name) for name in METRICS.values()]
                if intervals == "percentile":
                    drawn = resample(cells, seed=SEED, replicates=REPLICATES)
                    rates = numpy.stack([one(drawn) for one in shares])
                    numpy.nanquantile(rates, (0.025, 0.975), axis=1)
                else:
                    for one in shares:
                        bootstrap_intervals(cells, one, 0.95, seed=SEED, replicates=REPLICATES)
            found = groups.by_group(data, attribute)
            return {
                group.name.replace(" × ", "|"): {
                    metric: group.rates[name].value for metric, name in METRICS.items()
                }
                for group in found.groups
            }

        return read, call

    return imports


def fairlearn(replicates: int = 0) -> Callable[[], tuple[Any, Any]]:
    def imports() -> tuple[Any, Any]:
        import pandas
        from fairlearn import metrics
        from sklearn.metrics import accuracy_score, precision_score

        measured = {
            "accuracy": accuracy_score,
            "precision": precision_score,
            "selection_rate": metrics.selection_rate,
            "tpr": metrics.true_positive_rate,
            "fpr": metrics.false_positive_rate,
            "fnr": metrics.false_negative_rate,
        }
        how = {"n_boot": replicates, "ci_quantiles": [0.025, 0.975], "random_state": SEED}

        def call(table: Any, columns: list[str]) -> Numbers:
            frame = metrics.MetricFrame(
                metrics=measured,
                y_true=table["label"],
                y_pred=table["decision"],
                sensitive_features=table[columns],
                **(how if replicates else {}),
            )
            rows = frame.by_group.to_dict("index")
            frame.difference(), frame.ratio()
            if replicates:
                frame.by_group_ci  # noqa: B018
            return {
                name if isinstance(name, str) else "|".join(name): row for name, row in rows.items()
            }

        return _frame(pandas), call

    return imports


def aif360() -> tuple[Any, Any]:
    """Each group beside all others; the library wants numbers, so names are encoded first."""
    import pandas
    from aif360.datasets import BinaryLabelDataset
    from aif360.metrics import ClassificationMetric

    def call(table: Any, columns: list[str]) -> Numbers:
        codes, names = {}, {}
        for column in columns:
            codes[column], names[column] = pandas.factorize(table[column], sort=True)
        features = pandas.DataFrame(codes | {"label": table["label"]})
        truth = BinaryLabelDataset(
            df=features, label_names=["label"], protected_attribute_names=columns
        )
        decided = truth.copy()
        decided.labels = table["decision"].to_numpy(dtype=float).reshape(-1, 1)
        found: Numbers = {}
        groups = features[columns].drop_duplicates().to_dict("records")
        for group in groups:
            others = [other for other in groups if other != group]
            one = ClassificationMetric(
                truth, decided, unprivileged_groups=[group], privileged_groups=others
            )
            found["|".join(names[column][group[column]] for column in columns)] = {
                "accuracy": one.accuracy(privileged=False),
                "precision": one.precision(privileged=False),
                "selection_rate": one.selection_rate(privileged=False),
                "tpr": one.true_positive_rate(privileged=False),
                "fpr": one.false_positive_rate(privileged=False),
                "fnr": one.false_negative_rate(privileged=False),
            }
        return found

    return _frame(pandas), call


def aequitas() -> tuple[Any, Any]:
    """The crosstab and every disparity to the largest group; an intersection is a column of its own.

    1.1.0 asks for pandas before 3 and refuses its strings, so names are read as Python objects.
    """
    import pandas
    from aequitas.bias import Bias
    from aequitas.group import Group

    def call(table: Any, columns: list[str]) -> Numbers:
        group = table[columns[0]]
        for column in columns[1:]:
            group = group + "|" + table[column]
        rows = pandas.DataFrame(
            {"score": table["decision"], "label_value": table["label"], "group": group}
        )
        found, _ = Group().get_crosstabs(rows, attr_cols=["group"])
        Bias().get_disparity_major_group(found, original_df=rows)
        columns_of = {"selection_rate": "pprev"} | {
            name: name for name in METRICS if name != "selection_rate"
        }
        return {
            row["attribute_value"]: {metric: row[name] for metric, name in columns_of.items()}
            for row in found.to_dict("records")
        }

    return _frame(pandas, object), call


def _frame(pandas: Any, text: Any = "str") -> Callable[[Path], Any]:
    """Names are text, as a CSV would give them."""

    def read(path: Path) -> Any:
        if path.suffix == ".csv":
            table = pandas.read_csv(path)
            table = table.rename(columns={"two_year_recid": "label", "race": "A", "sex": "B"})
        else:
            table = pandas.read_parquet(path)
        return table.astype({"A": text, "B": text})

    return read


TOOLS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "ours, arrow table": ours("arrow"),
    "ours, pandas frame": ours("pandas"),
    "ours, dictionary columns": ours("dictionary"),
    "ours, gaps and rates with intervals in closed form": ours("arrow", "audit"),
    "ours, 2,000 replicates, percentile": ours("arrow", "percentile"),
    "ours, 2,000 replicates, BCa": ours("arrow", "bca"),
    "ours, 2,000 replicates, percentile, pandas frame": ours("pandas", "percentile"),
    "ours, 2,000 replicates, percentile, dictionary columns": ours("dictionary", "percentile"),
    "fairlearn": fairlearn(),
    "fairlearn, 10 replicates": fairlearn(10),
    "AIF360, one against the rest": aif360,
    "aequitas, crosstab and disparities": aequitas,
}


def one(tool: str, path: Path, columns: list[str]) -> None:
    """Measure in this process, and print it as JSON."""
    import logging
    import warnings

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    read, call = TOOLS[tool]()
    table = read(path)
    began, wall = time.process_time(), time.perf_counter()
    values = call(table, columns)
    seconds, wall = time.process_time() - began, time.perf_counter() - wall
    print(
        json.dumps(
            {
                "cpu": seconds,
                "wall": wall,
                "process": time.process_time(),
                "peak": _peak(),
                "torch": "torch" in sys.modules,
                "values": values,
            }
        )
    )


def _peak() -> float:
    """Megabytes; ru_maxrss would count the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def started(tool: str, path: Path, columns: list[str]) -> dict[str, Any]:
    """The same in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", tool, str(path), *columns],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{tool}: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def furthest(ours: Numbers, theirs: Numbers) -> float:
    """The largest difference of a rate that ours says is defined; of groups that are the same."""
    if set(ours) != set(theirs):
        raise SystemExit(f"groups differ: {sorted(ours)} and {sorted(theirs)}")
    return max(
        abs(value - (theirs[group][metric] or 0.0))
        for group, rates in ours.items()
        for metric, value in rates.items()
        if value is not None
    )


def installed(*, slow: bool) -> list[str]:
    found = []
    for tool in TOOLS:
        library = "assaymark" if tool.startswith("ours") else tool.split(",")[0].lower()
        if importlib.util.find_spec(library) is None:
            print(f"{library} is not installed: no row {tool}")
        elif slow or tool != "fairlearn, 10 replicates":
            found.append(tool)
    return found


def table_of(path: Path, tools: list[str], columns: list[str], runs: int) -> None:
    """A row for each tool: the least of so many runs, one of fairlearn; how far its rates lie from ours."""
    print("| tool | call, CPU s | process, CPU s | peak MB | furthest from ours |")
    print("|---|---|---|---|---|")
    base: Numbers = {}
    for tool in tools:
        slow = tool.startswith("fairlearn")
        found = [started(tool, path, columns) for _ in range(1 if slow else runs)]
        best = min(found, key=lambda run: float(run["cpu"]))
        base = base or best["values"]
        print(
            f"| {tool} | {best['cpu']:.3f} | {best['process']:.2f} | {best['peak']:.0f} "
            f"| {furthest(base, best['values']):.1e} |",
            flush=True,
        )


def cold(path: Path, million: Path, tools: list[str]) -> None:
    """From the shell to the numbers of race × sex of a CSV of 7,214 rows; ours also of a million rows."""
    print("| tool | wall s | CPU s | torch is imported |\n|---|---|---|---|")
    ask = (
        "import sys, assaymark.cli.main as m\ntry: m.main()\nfinally: print('torch' in sys.modules)"
    )
    audit = [sys.executable, "-c", ask, "bias", "table", "--prediction=decision", "--intersections"]
    commands = {
        "`assaymark bias table`": [
            *audit,
            str(path),
            "--label=two_year_recid",
            "--sensitive=race,sex",
        ],
        "the same of 1,000,000 rows": [*audit, str(million), "--label=label", "--sensitive=A,B"],
    }
    for tool in tools:
        if not tool.startswith("ours") and "replicates" not in tool:
            commands[tool] = [sys.executable, __file__, "--one", tool, str(path), "A", "B"]
    for name, words in commands.items():
        runs = [_timed(words) for _ in range(5)]
        wall, cpu, said = min(runs)
        torch = said[-1] == "True" if name not in tools else json.loads(said[-1])["torch"]
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {'yes' if torch else 'no'} |", flush=True)


def _timed(words: list[str]) -> tuple[float, float, list[str]]:
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    wall, after = time.perf_counter() - began, os.times()
    cpu = after.children_user + after.children_system - before.children_user
    return wall, cpu - before.children_system, done.stdout.strip().splitlines()


def main(root: Path, *, slow: bool, large: bool) -> None:
    tools = installed(slow=slow)
    plain = [tool for tool in tools if not tool.startswith("ours") or tool == "ours, arrow table"]
    with tempfile.TemporaryDirectory() as folder:
        path, million = Path(folder) / "table.parquet", Path(folder) / "million.parquet"
        _apart("make", million, "1000000")
        for columns in (["A"], ["A", "B"]):
            print(f"\n1,000,000 rows, six rates, {5 ** len(columns)} groups\n")
            table_of(million, tools, columns, 3)
        if large:
            _apart("make", path, "10000000")
            for columns in (["A"], ["A", "B"]):
                print(f"\n10,000,000 rows, six rates, {5 ** len(columns)} groups\n")
                table_of(path, [tool for tool in tools if "dictionary" in tool], columns, 3)
        for name, prepare in (("adult", adult), ("compas", compas)):
            prepare(root, path)
            for columns in (["A"], ["B"], ["A", "B"]):
                print(f"\n{name}, {' × '.join(columns)} (A is sex of Adult, race of COMPAS)\n")
                table_of(path, [tool for tool in plain if "10 rep" not in tool], columns, 1)
        print("\nCOMPAS as a CSV, from the shell\n")
        cold(path.with_suffix(".csv"), million, tools)


def _apart(what: str, path: Path, rows: str) -> None:
    """Make a table in another process, so that this one stays small."""
    subprocess.run([sys.executable, __file__, f"--{what}", str(path), rows], check=True)


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word not in ("--bootstrap", "--large")]
    if words[:1] == ["--one"]:
        one(words[1], Path(words[2]), words[3:])
    elif words[:1] == ["--make"]:
        make(Path(words[1]), int(words[2]))
    elif len(words) == 1:
        main(Path(words[0]), slow="--bootstrap" in sys.argv, large="--large" in sys.argv)
    else:
        sys.exit("usage: python tests/bench/bias_table.py ROOT [--bootstrap] [--large]")
