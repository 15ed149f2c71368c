"""Files of a project on disk: written aside and renamed, found by recipe, resumed shard by shard.

    phyla.json                      format version, where the images come from, what is current
    lock                            held by the process that writes
    images/KEY.parquet              the table of images
    scan/00000.parquet …            what reading each file once told (append-only sequence)
    features/KEY/00000.npy …        one network's features, float16, with 00000.ids.npy beside; or shards.lance/
    reduced/KEY/, groups/KEY/, map/KEY/, spread/KEY/, audit/KEY.json
    index/KEY/                      00000.vectors.npy … rows for search, sorted by cell; may be deleted
    near/, thumbs/                  what the page keeps to be quick; may be deleted
    edits.jsonl                     what people said (append-only), with edits.jsonl.lock beside
    sums/                           sums/NAME holds the checksum of NAME: of all but what may be deleted and the logs,
                                    each line of which has its own

A file is either there and whole or not there. Nothing is a pickle. On an object store the log is a folder with an
object for each line.
"""

from phyla.store._faults import Busy, NotTaken, plain
from phyla.store._features import Features
from phyla.store._files import FORMAT, Store
from phyla.store._forms import dims_of, not_an_array
from phyla.store._lance import LANCE, LanceFeatures, lance_package
from phyla.store._lines import read_line
from phyla.types import PhylaError

__all__ = [
    "FORMAT", "LANCE", "Busy", "Features", "LanceFeatures", "NotTaken", "Store",
    "dims_of", "features_of", "kind_of_store", "lance_package", "not_an_array", "plain", "read_line",
]  # fmt: skip

KINDS = {"npy": Features, "lance": LanceFeatures}


def kind_of_store(store: Store, kind: str | None) -> dict[str, str]:
    """What phyla.json is to say of how features are kept, where `kind` is asked for; it can't be changed later."""
    if kind is not None and kind not in KINDS:
        raise PhylaError(f"There is no store {kind!r}.", f"There is: {', '.join(KINDS)}.")
    meta = store.meta()
    was = meta.get("store", "npy") if "source" in meta else kind or "npy"
    if kind not in (None, was):
        raise PhylaError(f"{store.place} keeps its features in {was}.", "Make another project with --project.")
    if was == "lance":
        lance_package()
    return {"store": was} if was != "npy" else {}


def features_of(store: Store, stage: str) -> Features:
    """The features in a stage, kept as the project says."""
    return KINDS[store.meta().get("store", "npy")](store, stage)
