"""A classifier's file: how fast Phyla predicts with it, beside inference alone, and how well others agree with it.

    python benchmarks/predict.py [--threads 2] [--rounds 3] [--images 3000] [--compared 10000]

The classifier is lite0 with a linear head taught by 2,000 training images of CIFAR-10, in floats and in 8-bit integers
calibrated on 300 of them. Each round times inference alone, the whole, and inference again, so that a machine whose
speed drifts slows both; the ratio is the median over rounds. The whole is what `phyla predict` does: list, read,
decode, resize, infer, keep shards, write the CSV; loading the network is left out. Then ONNX Runtime, in one thread,
looks at test images of CIFAR-10 that are given to it as they are. The result of the last full run stands in
docs/benchmarks.md. Needs onnxruntime (pip install 'phyla[test]').
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from unittest.mock import patch

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
from _data import cifar_part, grocery, need
from extraction import inference
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from phyla import _predicting, backbones
from phyla.engine import cores
from phyla.train import Head, Model, read, write

TAUGHT, CALIBRATED, AXES = 2000, 300, 128


def pictures(part: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    table = pq.read_table(need(f"cifar10-{part}.parquet")).slice(0, n)
    decoded = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in table["image"].to_pylist()]
    return np.stack(decoded), np.array(table["label"].to_pylist())


def views(shown: np.ndarray, card: backbones.Card) -> np.ndarray:
    return np.stack([backbones.fit(picture, card) for picture in shown])


def make(folder: Path, threads: int) -> dict[str, Path]:
    """A classifier's file in floats and one in integers."""
    card = backbones.card("lite0")
    shown, truth = pictures("train", TAUGHT)
    network = backbones.load(card, threads, "f32")
    X = np.concatenate([network(views(shown[i : i + 50], card)) for i in range(0, TAUGHT, 50)])
    pca = PCA(AXES, random_state=0).fit(X)
    scale = np.sqrt(pca.explained_variance_)
    linear = LogisticRegression(C=0.01, max_iter=500).fit(pca.transform(X) / scale, truth)
    parts = pca.mean_, pca.components_, scale, linear.coef_.T, linear.intercept_, np.full(10, 0.3), np.zeros((1, AXES))
    mean, axes, scale, weights, bias, radius, centers = (part.astype(np.float32) for part in parts)
    head = Head(
        mean, axes, scale, (((axes.T / scale) @ weights, bias),), radius, centers, np.zeros((4, 100), np.float32)
    )
    ranges = backbones.calibrate(card, views(shown[:CALIBRATED], card), threads)
    files = {"floats": folder / "floats.onnx", "integers": folder / "integers.onnx"}
    for path, measured in zip(files.values(), (None, ranges), strict=True):
        write(path, card, head, [str(c) for c in range(10)], {}, integer=measured)
    return files


def whole(path: Path, place: Path, folder: Path, network: backbones.Network, threads: int) -> float:
    """Images a second from files to the table."""
    with patch.object(Model, "load", lambda self, threads: network):
        started = perf_counter()
        told = _predicting.predict(path, place, folder / "out.csv", force=True, threads=threads)
        return told["images"] / (perf_counter() - started)


def agreement(path: Path, n: int) -> None:
    shown, truth = pictures("test", n)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options)
    started = process_time()
    parts = [session.run(["class"], {"pictures": shown[i : i + 4]})[0] for i in range(0, n, 4)]
    told, seconds = np.concatenate(parts), process_time() - started
    print(f"  ONNX Runtime: accuracy {np.mean(told == truth):.4f}, {n / seconds:.0f} images a CPU-second")
    model = read(path)
    for precision in ("f32", "bf16"):
        network = model.load(1, precision)
        started = process_time()
        rows = np.concatenate([network(views(shown[i : i + 40], model.card)) for i in range(0, n, 40)])
        seconds = process_time() - started
        ours = model.columns(rows)["class"].astype(int)
        print(
            f"  Phyla in {precision}: accuracy {np.mean(ours == truth):.4f}, agrees on {np.mean(ours == told):.4f}, "
            f"{n / seconds:.0f} images a CPU-second",
            flush=True,
        )


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--threads", type=int, default=cores())
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--images", type=int, default=3000, help="CIFAR-10 images in the part measured")
    arguments.add_argument("--compared", type=int, default=10_000, help="test images that agreement is counted on")
    args = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        places = {"CIFAR-10 (Parquet)": cifar_part(folder, args.images), "grocery photos (JPEG)": grocery(folder)}
        for kind, path in make(folder, args.threads).items():
            print(f"lite0 in {kind}: {path.stat().st_size / 1e6:.1f} MB")
            network = read(path).load(args.threads)
            for what, place in places.items():
                rounds = []
                for _ in range(args.rounds):
                    before = inference([network], args.threads)
                    rate = whole(path, place, folder, network, args.threads)
                    rounds.append((rate, (before + inference([network], args.threads)) / 2))
                print(
                    f"  {what:24} end to end {median(r for r, _ in rounds):6.1f} img/s, inference alone "
                    f"{median(a for _, a in rounds):6.1f} (ratio {median(r / a for r, a in rounds):.3f})",
                    flush=True,
                )
            agreement(path, args.compared)


if __name__ == "__main__":
    main()
