"""From a few asked labels to a file: the teacher, students of each network, the cascade, floats and integers.

    python benchmarks/students.py PROJECT TEST.parquet [--answers 40] [--seeds 1] [--files FOLDER]

PROJECT is a project of CIFAR-10's training images described by the three bundled networks (of which a copy is made),
TEST.parquet its test images. As on the command line: forty answers are asked for in rounds of ten, the true labels
given, the labels spread, students taught, and files written. Accuracy is that of the test images, by the files as
`phyla predict` runs them; the float file is also run in plain ONNX Runtime.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

import phyla
from phyla import sources


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("project", type=Path)
    arguments.add_argument("test", type=Path)
    arguments.add_argument("--answers", type=int, default=40)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--files", type=Path)
    args = arguments.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        copy = Path(aside) / "copy.phyla"
        shutil.copytree(args.project, copy)
        project = phyla.Project(copy)
        source = project.show()["source"]
        truth = sources.open_source(source).labels()
        for budget in range(10, args.answers + 1, 10):
            asked = project.suggest(10, seed=args.seed)
            path = Path(aside) / "answers.csv"
            with path.open("w", newline="", encoding="utf-8") as file:
                rows = csv.writer(file)
                rows.writerow(["uri", "label"])
                rows.writerows([one["uri"], truth[one["uri"]]] for one in asked)
            project.label(path)
            if budget % 20 == 0 or budget == 10:
                project.spread(report=False, seed=args.seed)
        known = sources.open_source(args.test).labels()

        def right(uris, names) -> float:
            return float(np.mean([known[uri] == name for uri, name in zip(uris, names, strict=True)]))

        rows = project.predict(args.test)
        print(f"teacher, three networks: {right(rows['uri'], rows['name']):.4f}", flush=True)
        files = args.files or Path(aside) / "files"
        started = perf_counter()
        told = project.train(seed=args.seed)
        print(f"taught in {perf_counter() - started:.0f} s; {told['cascade']}", flush=True)
        print("| | as the teacher sees it | test images | deferred | right of the others | MB | seconds |")
        print("|---|---|---|---|---|---|---|")

        def report(name: str, path: Path, expected: float, megabytes: float) -> None:
            started = perf_counter()
            rows = phyla.predict(path, args.test)["rows"]
            seconds, sure = perf_counter() - started, ~rows["defer"]
            print(
                f"| {name} | {expected:.4f} | {right(rows['uri'], rows['class']):.4f} | {1 - sure.mean():.3f} | "
                f"{right(rows['uri'][sure], rows['class'][sure]):.4f} | {megabytes:.1f} | {seconds:.0f} |",
                flush=True,
            )

        for one in told["students"]:
            for integer in (False, True):
                name = f"{one['backbone']}{' in integers' * integer}"
                path = files / f"{name.replace(' ', '-')}.onnx"
                (file,) = project.train(path, backbone=one["backbone"], integer=integer, force=True)["written"]
                report(name, path, one["right"], file["megabytes"])
        for budget in (None, 0.5):
            folder = files / f"cascade-{budget}"
            of = project.train(folder, cascade=True, budget=budget, force=True)
            megabytes = sum(file["megabytes"] for file in of["written"])
            report(f"cascade, {of['cascade']['cost']:.0%} of the cost", folder, of["cascade"]["right"], megabytes)


if __name__ == "__main__":
    main()
