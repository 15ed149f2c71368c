"""Which class a group is, by its name alone, through a network that reads words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla._opened import Opened
from phyla._progress import Progress
from phyla._steps import Steps, words_of
from phyla.engine import limited
from phyla.label.zero_shot import TEMPLATES, class_vectors, name_groups, prompt_weights, refine
from phyla.types import UNSORTED, PhylaError


def guess(
    project: Opened, answers: NDArray[np.int32], known: Sequence[str], classes: Sequence[str], threads: int
) -> list[dict[str, Any]]:
    """See `Project.guess`; `answers` (n,) are codes of the classes `known`, −1 where there is none."""
    wanted = list(dict.fromkeys(name.strip() for name in classes if name.strip()))
    if len(wanted) < 2:
        raise PhylaError("A guess needs two classes to choose from.", "Give their names.")
    with limited(threads):
        found = words_of(project.store.meta(), project._current("features"), threads)
        if found is None:
            raise PhylaError(
                f"{' and '.join(project._current('backbones'))} can't read words.",
                "Sort with one that can: phyla sort PHOTOS --backbone openclip:ViT-B-32/laion2b_s34b_b79k",
            )
        stage, texts_of = found
        texts = np.stack([texts_of([template.format(name) for template in TEMPLATES]) for name in wanted])
        steps = Steps(project.store, threads, Progress(quiet=True))
        pictures = np.concatenate(list(steps.features(stage, project.images.ids)))
        code = {name: i for i, name in enumerate(wanted)}
        said = np.array([code.get(name, UNSORTED) for name in known] + [UNSORTED], np.int32)[answers]
        proba = refine(pictures, class_vectors(texts, prompt_weights(pictures, texts)), said)
        named = name_groups(proba, project.grouping.best)
    order = np.argsort(-named.sureness, kind="stable").tolist()
    return [{"group": g, "name": wanted[named.name[g]], "sureness": float(named.sureness[g])} for g in order]
