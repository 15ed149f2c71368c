"""Extraction beside its limits: inference alone, and decode + resize + inference spread over the cores.

    python benchmarks/extraction.py [--threads 2] [--rounds 3]

Each round times the parts and the whole one after the other, so that a machine whose speed drifts slows both; the
ratio is the median over rounds. End to end is what `phyla sort` does up to its features: list, read, hash, decode,
resize, infer, write shards. The result of the last full run stands in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time

import numpy as np
from _data import MEGAPIXELS, cifar_part, grocery, large_jpegs

from phyla import backbones, plugins, sources
from phyla._progress import Progress
from phyla._steps import Steps, images_of
from phyla.engine import cores
from phyla.project import Project
from phyla.types import Images

LITE = ("lite0", "lite1", "lite2")


def inference(networks: list[backbones.Network], threads: int, seconds: float = 4.0) -> float:
    """Images a second through all the networks, with nothing to decode."""
    pictures = [np.zeros((8, n.card.size, n.card.size, 3), np.uint8) for n in networks]
    started = perf_counter()

    def repeat(_: int) -> int:
        done = 0
        while perf_counter() - started < seconds:
            for network, batch in zip(networks, pictures, strict=True):
                network(batch)
            done += 8
        return done

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(repeat, range(threads))) / (perf_counter() - started)


def whole(place: Path, names: tuple[str, ...], threads: int) -> float:
    """Images a second from files to shards on disk; loading the networks is left out."""
    with tempfile.TemporaryDirectory() as folder:
        project = Project(folder, create=True)
        cards = [backbones.card(name) for name in names]
        source = sources.open_source(place)
        loaded = {card.name: backbones.load(card, threads) for card in cards}
        original, backbones.load = backbones.load, lambda card, threads: loaded[card.name]
        try:
            with project.store.writing():
                started = perf_counter()
                steps = Steps(project.store, threads, Progress(quiet=True))
                images = images_of(steps.scan(source), source)
                steps.extract(images, cards)
                return len(images) / (perf_counter() - started)
        finally:
            backbones.load = original


def parts(images: Images, networks: list[backbones.Network], threads: int) -> dict[str, float]:
    """CPU-seconds an image of decoding, resizing and inferring, measured in `threads` threads at once."""
    needed = max(n.card.shorter_side for n in networks)
    rows = np.linspace(0, len(images) - 1, min(len(images), 200)).astype(int).tolist()

    def one(chunk: list[int]) -> np.ndarray:
        started = thread_time()
        pictures = [images.open(row, needed) for row in chunk]
        decoded = thread_time()
        inputs = [np.stack([backbones.fit(p, n.card) for p in pictures]) for n in networks]
        return np.array([decoded - started, thread_time() - decoded, 0.0]) if inputs else np.zeros(3)

    chunks = [rows[i : i + 8] for i in range(0, len(rows), 8)]
    spent = sum(plugins.load("engine", "local")(one, chunks, threads)) / len(rows)
    return {"decode": spent[0], "resize": spent[1], "inference": threads / inference(networks, threads)}


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--threads", type=int, default=cores())
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--images", type=int, default=3000, help="CIFAR-10 images in the part measured")
    args = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        photos = grocery(folder)
        places = {"CIFAR-10 (Parquet)": cifar_part(folder, args.images), "grocery photos (JPEG)": photos}
        for name, (width, height, n) in MEGAPIXELS.items():
            places[f"{n} photos of {name}"] = large_jpegs(folder, photos, width, height, n)
        for names in (("lite0",), LITE):
            networks = [backbones.load(backbones.card(name), args.threads) for name in names]
            for what, place in places.items():
                source = sources.open_source(place)
                entries = source.entries()
                images = Images(
                    np.array([e.uri for e in entries]), np.array([e.uri for e in entries]),
                    np.zeros(len(entries), np.int32), np.zeros(len(entries), np.int32),
                    lambda row, need, s=source, e=entries: sources.decode(s.read(e[row].uri), need),
                )  # fmt: skip
                rounds = []
                for _ in range(args.rounds):
                    alone = inference(networks, args.threads)
                    cost = parts(images, networks, args.threads)
                    rate = whole(place, names, args.threads)
                    again = inference(networks, args.threads)
                    alone = (alone + again) / 2
                    cost["inference"] = args.threads / alone
                    rounds.append((alone, args.threads / sum(cost.values()), rate, *cost.values()))
                alone, limit, rate, decode, resize, infer = (median(column) for column in zip(*rounds, strict=True))
                print(
                    f"{'+'.join(names):18} {what:30} end to end {rate:6.1f} img/s; inference alone {alone:6.1f} "
                    f"(ratio {median(r[2] / r[0] for r in rounds):.3f}); sum of parts {limit:6.1f} "
                    f"(ratio {median(r[2] / r[1] for r in rounds):.3f}); CPU ms an image: decode {1e3 * decode:.2f}, "
                    f"resize {1e3 * resize:.2f}, inference {1e3 * infer:.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
