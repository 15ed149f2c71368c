"""Files of a project on disk: written aside and renamed, found by recipe, resumed shard by shard.

    phyla.json                      format version, where the images come from, what is current
    lock                            held by the process that writes
    images/KEY.parquet              the table of images
    scan/00000.parquet …            what reading each file once told (append-only sequence)
    features/KEY/00000.npy …        one network's features, float16, with 00000.ids.npy beside
    reduced/KEY/, groups/KEY/, map/KEY/, spread/KEY/, audit/KEY.json
    index/KEY/                      00000.vectors.npy … rows for search, sorted by cell; may be deleted
    near/, thumbs/                  what the page keeps to be quick; may be deleted
    edits.jsonl                     what people said (append-only), with edits.jsonl.lock beside
    sums/                           sums/NAME holds the checksum of NAME: of all but what may be deleted and the logs,
                                    each line of which has its own

A file is either there and whole or not there. Nothing is a pickle. On an object store the log is a folder with an
object for each line.
"""

from phyla.store._features import Features
from phyla.store._files import FORMAT, Busy, Store, plain, read_line

__all__ = ["FORMAT", "Busy", "Features", "Store", "plain", "read_line"]
