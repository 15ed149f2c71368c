"""Few labels on CIFAR-10: accuracy by how many are asked for, chosen or at random, and what deferral accepts.

    python benchmarks/labels.py PROJECTS [--seeds 5] [--spread anchored] [--ask auto,random]

PROJECTS is the folder of `accuracy.py`, in which `methods.py` has left cifar.npz: three networks, 256 whitened axes
each. As on the command line: the training images are grouped (`vote`, told 10), then asked about in rounds, up to 10,
40, 100 and 250 answers in all, with a spread after each. Answers are the true labels. Accuracy is that of the 10,000
test images, which nobody asked about. Deferral is set to 2 % and learnt from the 250 answers. Means over the seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter

import numpy as np

from phyla import plugins
from phyla._needs import needs
from phyla.cluster import leading
from phyla.label.defer import Defer, held_out
from phyla.neighbors import nearest_neighbors

BUDGETS = (10, 40, 100, 250)
TARGET = 0.02
THREADS = 2


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--spread", default="anchored")
    arguments.add_argument("--ask", default="auto,random")
    args = arguments.parse_args()
    told = np.load(args.folder / "cifar.npz")
    X, y, Xt, yt = told["X"], told["y"].astype(np.int32), told["Xt"], told["yt"]
    blocks = (X.shape[1] // 3,) * 3
    near = leading(X, blocks)
    neighbors = nearest_neighbors(near, 20, n_jobs=THREADS)
    classes = tuple(map(str, range(10)))
    results: dict[tuple[str, int], list[float]] = {}
    deferred, seconds = [], []
    print("| asked by | seed | " + " | ".join(map(str, BUDGETS)) + " |\n|---|---|" + "---|" * len(BUDGETS))
    for seed in range(args.seeds):
        vote = plugins.load("cluster", "vote")(10, blocks=blocks, random_state=seed, n_jobs=THREADS).fit(X)
        for way in args.ask.split(","):
            ask, rng = plugins.load("label.ask", way), np.random.default_rng(seed)
            answers, proba, line = np.full(len(X), -1, np.int32), None, []
            for budget in BUDGETS:
                offered = {"X": near, "groups": vote.labels_, "strength": vote.strength_, "labels": answers,
                           "neighbors": neighbors, "proba": proba, "classes": classes}  # fmt: skip
                given, _ = needs(ask, {name: lambda v=value: v for name, value in offered.items()})
                rows = [row for row, _ in ask(budget - int((answers >= 0).sum()), rng, **given)]
                answers[rows] = y[rows]
                known, codes = np.unique(answers[answers >= 0], return_inverse=True)  # a class may not have been met
                packed = answers.copy()
                packed[answers >= 0] = codes
                started = perf_counter()
                model, proba = next(learn(args.spread, X, [packed], vote.labels_, blocks, seed))
                seconds.append(perf_counter() - started)
                line.append(float((known[model.predict_proba(Xt).argmax(1)] == yt).mean()))
                results.setdefault((way, budget), []).append(line[-1])
                proba = proba if len(known) == 10 else None
            print(f"| {way} | {seed} | " + " | ".join(f"{a:.4f}" for a in line) + " |", flush=True)
            if way == args.ask.split(",")[0]:
                deferred.append(deferral(args.spread, X, answers, vote.labels_, blocks, seed, Xt, yt))
                print(
                    f"deferral: accepts {deferred[-1][0]:.3f}, states {deferred[-1][1]:.4f}, is {deferred[-1][2]:.4f}"
                )
    for (way, budget), found in results.items():
        print(f"{way} {budget}: {np.mean(found):.4f} (spread {np.ptp(found):.4f})")
    accepts, states, true = np.array(deferred).T
    print(f"deferral at {TARGET:.0%}: accepts {accepts.mean():.3f} ({accepts.min():.3f} to {accepts.max():.3f}), ")
    print(
        f"  states {states.mean():.4f}, true {true.mean():.4f}, off by {np.abs(states - true).mean():.4f} in the mean"
    )
    print(f"a spread takes {np.median(seconds):.0f} s")


def spreader(name: str, blocks: tuple[int, ...], seed: int):
    model = plugins.load("label.spread", name)()
    offered = {"blocks": blocks, "random_state": seed, "n_jobs": THREADS}
    return model.set_params(**{k: v for k, v in offered.items() if k in model.get_params()})


def learn(name, X, labellings, groups, blocks, seed):
    """A fitted model of each labelling, and what it says of the rows of X."""
    way = spreader(name, blocks, seed)
    if hasattr(way, "fits"):
        yield from way.fits(X, labellings, groups)
        return
    for labels in labellings:
        model = spreader(name, blocks, seed).fit(X, labels, groups)
        yield model, model.predict_proba(X)


def deferral(name, X, answers, groups, blocks, seed, Xt, yt) -> tuple[float, float, float]:
    """Share of the test images accepted, the error stated, and the true error among them."""
    model, _, apart, unseen = held_out(
        lambda labellings: learn(name, X, labellings, groups, blocks, seed), answers, np.random.default_rng(seed)
    )
    defer = Defer(TARGET).fit(apart, unseen)
    proba = model.predict_proba(Xt)
    accepted = defer.accept(proba)
    return float(accepted.mean()), defer.error_, float((proba.argmax(1) != yt)[accepted].mean())


if __name__ == "__main__":
    main()
