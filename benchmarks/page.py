"""The page at 1,000,000 images: first cards 1.3 s after its start, an edit in 3 to 21 ms (median of its kind), 773 MiB.

`phyla show` takes 0.67 s, 0.73 s after edits (0.52 and 0.70 of CPU time). Memory (RSS) of the server: 431 MiB once the
page is shown, 773 after edits, 396 of them mapped files; 957 at most. Milliseconds:

    summary after an edit 116-193    cards after that 61-89     rows of all 16-33    points 88    alike 11
    preview of a split 152           summary, cards again 1, 1  what to ask 1,273, again 296

2 cores, AMD EPYC; Python 3.11, Starlette 1.10; 5 trials beside other work (load 5), 2026-11-22.

python benchmarks/page.py [IMAGES] makes a project of that many made-up images (no pictures; three networks' axes) in
a temporary folder, starts the server in a process of its own and times what the page asks, over HTTP on this machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from hashlib import blake2b
from http.client import HTTPConnection
from pathlib import Path
from time import perf_counter, sleep

import numpy as np

GROUPS, NETWORKS, AXES, TRIALS = 50, 3, 64, 5
SERVER = """
import sys
from phyla.app import _jobs, serve
from phyla.project import Project
_jobs._ENOUGH = 10**9  # no spread by itself amid the edits
serve(Project(sys.argv[1]), port=int(sys.argv[2]), token="bench", open_browser=False)
"""


def make(folder: Path, n: int) -> None:
    """A project of n images: GROUPS blobs, an uneven many in each; strengths and a map; two thousand findings."""
    from phyla._progress import Progress
    from phyla._searching import build_index
    from phyla.project import Project
    from phyla.store import Store
    from phyla.types import Recipe

    rng = np.random.default_rng(0)
    store = Store.create(folder)
    best = rng.choice(GROUPS, n, p=(share := 1 / np.arange(3, GROUPS + 3)) / share.sum()).astype(np.int32)
    # Hashes, as those of files: ids that begin alike take five times as long to be put in order.
    ids = np.array([blake2b(str(i).encode(), digest_size=16).hexdigest() for i in range(n)], object)
    with store.writing():
        table = {"uri": [f"/photos/{i // 1000:04}/{i:07}.jpg" for i in range(n)], "id": ids}
        table |= {"width": np.full(n, 640, np.int32), "height": np.full(n, 480, np.int32)}
        table |= {"fault": np.full(n, None, object), "row": np.arange(n, dtype=np.int32)}
        store.write_table("images/made.parquet", table)
        features, reduced = list[str](), list[str]()
        for network in range(NETWORKS):
            features.append(store.stage(Recipe("features", f"made {network}")))
            stage = store.stage(Recipe("reduced", "pca", {}, (features[-1],)))
            centers = rng.normal(0, 1, (GROUPS, AXES)).astype(np.float32)
            X = np.lib.format.open_memmap(store.folder / stage / "X.npy", "w+", np.float32, (n, AXES))
            for start in range(0, n, 1 << 16):
                of = best[start : start + (1 << 16)]
                X[start : start + len(of)] = centers[of] + rng.standard_normal((len(of), AXES), np.float32)
            X.flush()
            store.finish(stage, {"components_": np.zeros((AXES, AXES), np.float32)})
            reduced.append(stage)
        groups = store.stage(Recipe("groups", "vote", {"n_clusters": GROUPS}, tuple(reduced)))
        store.finish(groups, {"labels_": best, "strength_": np.rint(rng.beta(5, 1.5, n) * 50).astype(np.float32) / 50})
        points = store.stage(Recipe("map", "tsne", {}, tuple(reduced)))
        store.finish(points, {"points": rng.normal(0, 1, (n, 2)).astype(np.float32)})
        pairs = rng.choice(n, (2000, 2), replace=False)
        found = [{"check": "duplicates", "ids": ids[p].tolist(), "severity": 0.9, "why": "2 are alike."} for p in pairs]
        store.write_json("audit/made.json", {"findings": found, "skipped": {}})
        (folder / "photos").mkdir()
        store.update_meta(
            source=str(folder / "photos"), images="images/made.parquet", backbones=["made"] * NETWORKS,
            features=features, reduced=reduced, groups=groups, agreement=0.5, map=points, audit="audit/made.json",
        )  # fmt: skip
        build_index(store, reduced, n, map, Progress(quiet=True))
        Project(folder).prepare()  # as `sort` does at its end


def memory(pid: int) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    told = dict(line.split(":", 1) for line in lines)
    kib = {name: int(told[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM", "RssAnon", "RssFile")}
    return ", ".join(f"{name} {mib:.0f}" for name, mib in kib.items()) + " MiB"


def main(n: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder, port = Path(place) / "made.phyla", 8799
        made = perf_counter()
        subprocess.run([sys.executable, __file__, "--make", str(folder), str(n)], check=True)
        print(f"made {n:,} images in {perf_counter() - made:.0f} s")
        show(folder)
        begun = perf_counter()
        server = subprocess.Popen([sys.executable, "-P", "-c", SERVER, str(folder), str(port)])
        try:
            measure(port, server.pid, begun)
        finally:
            server.terminate()
            server.wait()
        show(folder)


def show(folder: Path) -> None:
    """`phyla show` as a process of its own."""
    command = [sys.executable, "-P", "-c", "from phyla.cli import main; main()", "show", "--json", str(folder)]
    for _ in range(TRIALS):
        begun = perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, _, used = os.wait4(process.pid, 0)
        cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
        print(f"phyla show: {perf_counter() - begun:.2f} s, {cpu:.2f} s of CPU time, peak {peak:.0f} MiB")


def measure(port: int, pid: int, begun: float) -> None:
    def ask(path: str, told: object = None) -> bytes:
        asking = HTTPConnection("127.0.0.1", port)
        headers = {"Cookie": f"phyla_{port}=bench", "Origin": f"http://127.0.0.1:{port}"}
        headers |= {"Content-Type": "application/json"} if told is not None else {}
        asking.request("GET" if told is None else "POST", path, told and json.dumps(told), headers)
        answer = asking.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {data[:300]!r}")
        return data

    def timed(what: str, path: str, told: object = None, trials: int = 1) -> bytes:
        times = []
        for _ in range(trials):
            begun = perf_counter()
            data = ask(path, told)
            times.append(1000 * (perf_counter() - begun))
        print(f"{what:44} {np.median(times):8.0f} ms  (most {max(times):.0f})  {len(data):,} bytes")
        return data

    for _ in range(300):
        try:
            ask("/api/cards?by=group")
            break
        except OSError:
            sleep(0.02)
    ticks = map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])
    cpu = sum(ticks) / os.sysconf("SC_CLK_TCK")
    print(f"from the start of the process to the first cards {perf_counter() - begun:.2f} s, {cpu:.2f} s of CPU time")
    print(memory(pid))
    timed("summary, the first", "/api/summary")
    print(memory(pid))
    for path in ("summary", "cards?by=group", "rows?of=all&order=typical", "rows?of=group:0&order=typical",
                 "rows?of=all&order=uncertain", "image/5", "tree?key=", "history", "findings?check=duplicates",
                 "array/points", "array/groups", "array/labels", "array/strength", "array/severity"):  # fmt: skip
        timed(path, f"/api/{path}", trials=TRIALS)
    print(memory(pid))
    timed("the most alike to three", "/api/search", {"like": {"rows": [5, 6, 7]}}, TRIALS)
    timed("what to ask, the first time", "/api/ask?n=20")
    timed("what to ask, again", "/api/ask?n=20", trials=TRIALS)
    timed("preview of the smallest group", "/api/preview", {"group": GROUPS - 1, "parts": 2})
    timed("tree below the largest group", "/api/tree?key=g0")
    print(memory(pid))
    edits = {
        "name": [{"op": "name", "group": g, "name": f"class {g % 20}"} for g in range(10)],
        "merge": [{"op": "merge", "groups": [g, g + 1], "name": f"pair {g}"} for g in range(10, 20, 2)],
        "confirm 1": [{"op": "confirm", "rows": [r], "name": "class 1"} for r in range(4)],
        "move 100": [{"op": "move", "rows": list(range(s, s + 100)), "name": "class 2"} for s in (1000, 2000, 3000)],
        "move 10,000": [
            {"op": "move", "rows": list(range(s, s + 10_000)), "name": "class 3"} for s in (50_000, 70_000)
        ],
        "remove 100": [{"op": "remove", "rows": list(range(s, s + 100))} for s in (4000, 5000)],
        "keep": [{"op": "keep", "rows": [9], "check": "duplicates"}],
        "undo": [{"op": "undo"}] * 3,
        "redo": [{"op": "redo"}] * 3,
    }
    for what, listed in edits.items():
        said, summaries, cards = [], [], []
        for edit in listed:
            for path, told, times in (("edits", edit, said), ("summary", None, summaries),
                                      ("cards?by=group", None, cards)):  # fmt: skip
                begun = perf_counter()
                ask(f"/api/{path}", told)
                times.append(1000 * (perf_counter() - begun))
        shown = ", ".join(f"{np.median(times):.0f} ms (most {max(times):.0f})" for times in (said, summaries, cards))
        print(f"{what:20} edit, then summary, then cards: {shown}")
    timed("cards by class", "/api/cards?by=class")
    timed("array/labels after edits", "/api/array/labels")
    print(memory(pid))


if __name__ == "__main__":
    if "--make" in sys.argv:
        make(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
