"""Names without a label: classes told by their words, for networks that read text as well as pictures."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["TEMPLATES", "Named", "class_vectors", "name_groups", "prompt_weights", "refine", "zero_shot"]

Array = NDArray[np.float32]

# General ones: which of them suit a collection is what `prompt_weights` is for.
TEMPLATES = (
    "{}",
    "a {}",
    "a photo of a {}",
    "a photograph showing a {}",
    "a snapshot of one {}",
    "a picture in which there is a {}",
    "several {} in one picture",
    "a {} seen close up",
    "a {} seen from afar",
    "part of a {}",
    "a {} indoors",
    "a {} outdoors",
    "a {} on a plain background",
    "a dark picture of a {}",
    "a bright picture of a {}",
    "a blurred picture of a {}",
    "a tiny, coarse picture of a {}",
    "a black and white photo of a {}",
    "a drawing of a {}",
    "a painting of a {}",
    "a {} as a toy",
    "a {}, an everyday thing",
)

_LOGIT = 100.0  # what CLIP multiplies cosines by (Radford et al., 2021)
_BLOCK = 4096  # images whose logits under all prompts are held at once


class Named(NamedTuple):
    """Group → class.

    name : (g,) int32, the likeliest class of each group; several groups may be one class. sureness : (g,), 0..1, the
    mean probability of that class over the group's images; 0 where a group is empty. proba : (g, c), of all classes.
    """

    name: NDArray[np.int32]
    sureness: Array
    proba: Array


def prompt_weights(images: Array, texts: Array, background: Array | None = None) -> Array:
    """How much each prompt should count, (p,), with sum 1, found without labels.

    A prompt suits a collection if its images are near some class's text under it: the score is the mean over images of
    the largest logit. Words that are near all pictures would win by that, so from each logit half of its mean over
    `background` and half of its mean over `images` is taken first. The weights are the scores' softmax.

    images (n, d), texts (c, p, d): vectors of one network, of any length. background (m, d): vectors of pictures of all
    kinds, such as the network learnt from; where there are none the images' own mean is taken whole. O(n·c·p·d).

    Allingham et al. (2023), "A Simple Zero-shot Prompt Weighting Technique to Improve Prompt Ensembling in Text-Image
    Models".
    """
    images, texts = _unit(images), _unit(texts)
    if not len(images):
        return np.full(texts.shape[1], 1 / texts.shape[1], np.float32)
    usual = images.mean(0)
    if background is not None and len(background):
        usual = (usual + _unit(background).mean(0)) / 2
    flat = texts.reshape(-1, texts.shape[2]).T
    # The mean of the logits is the logit of the mean.
    offset = usual @ flat
    score = np.zeros(texts.shape[1])
    for start in range(0, len(images), _BLOCK):
        logits = (images[start : start + _BLOCK] @ flat - offset).reshape(-1, *texts.shape[:2])
        score += logits.max(1).sum(0, dtype=np.float64)
    return _softmax(_LOGIT * (score / len(images)).astype(np.float32))


def class_vectors(texts: Array, weights: Array | None = None) -> Array:
    """One vector (c, d) of length 1 a class: the mean of its prompts' unit vectors (c, p, d), by their weights (p,)."""
    texts = _unit(texts)
    return _unit(texts.mean(1) if weights is None else np.einsum("cpd,p->cd", texts, weights))


def zero_shot(images: Array, classes: Array) -> Array:
    """Probabilities (n, c) of the classes (c, d) for images (n, d): softmax of cosines as CLIP scales them."""
    return _softmax(_LOGIT * (_unit(images) @ _unit(classes).T))


def name_groups(proba: Array, groups: NDArray[np.int32]) -> Named:
    """Which class each group is: the likeliest on average over its images.

    proba (n, c): of the images, as from `zero_shot` or `refine`. groups (n,): −1 belongs to none.
    """
    inside = groups >= 0
    count = int(groups.max(initial=-1)) + 1
    total = np.zeros((count, proba.shape[1]))
    np.add.at(total, groups[inside], proba[inside])
    size = np.bincount(groups[inside], minlength=count)
    mean = (total / np.maximum(size, 1)[:, None]).astype(np.float32)
    return Named(mean.argmax(1).astype(np.int32), mean.max(1), mean)


def refine(images: Array, classes: Array, labels: NDArray[np.int32] | None = None, rounds: int = 5) -> Array:
    """Probabilities (n, c) after the network has taught itself what its words look like in this collection.

    In each round every class takes the images it is likeliest for, equally many for each class so that none is
    forgotten, and more every round, up to half of an even share; their mean, together with the class's text, is what
    images are then compared with. Known labels (n,), −1 elsewhere, stand, and count like those images. The answer is on
    average as sure as the network was by itself. With rounds=0 it is `zero_shot`.

    images (n, d), classes (c, d) as from `class_vectors`. O(rounds·n·c·d).

    Menghini, Delworth and Bach (2023), "Enhancing CLIP with CLIP: Exploring Pseudolabeling for Limited-Label Prompt
    Tuning", for pseudolabels of which every class has equally many and each round more; it tunes prompts, here a mean
    is taken.
    """
    images, text = _unit(images), _unit(classes)
    proba = zero_shot(images, text)
    if not len(images):
        return proba
    labels = np.full(len(images), -1, np.int32) if labels is None else labels
    named = np.flatnonzero(labels >= 0)
    # Pictures and texts lie in parts of the space of their own: only what is particular to a class may mix.
    around, words = images - images.mean(0), _unit(text - text.mean(0))
    sureness = _some(proba).max(1).mean()
    for step in range(1, rounds + 1):
        take = max(len(images) * step // (2 * rounds * len(text)), 1)
        proba[named] = -1
        chosen = np.argpartition(-proba, min(take, len(images)) - 1, axis=0)[:take]
        seen = np.stack([_taught(around, rows[labels[rows] < 0], labels == j) for j, rows in enumerate(chosen.T)])
        cosines = around @ (words + _unit(seen)).T
        proba = _softmax(cosines * _scale(_some(cosines), sureness))
    proba[named] = np.eye(len(text), dtype=np.float32)[labels[named]]
    return proba


def _taught(images: Array, rows: NDArray[np.intp], known: NDArray[np.bool_]) -> Array:
    """Mean (d,) of these rows and of those known."""
    mean: Array = np.concatenate([images[rows], images[known]]).mean(0)
    return mean


def _some(rows: Array) -> Array:
    """At most some 2,000 of the rows, evenly: enough for a mean."""
    return rows[:: max(len(rows) // 2000, 1)]


def _scale(logits: Array, sureness: float) -> float:
    """The factor at which the softmax of logits (n, c) is as sure as that, on average."""
    low, high = 1e-3, 1e5
    for _ in range(40):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if _softmax(logits * middle).max(1).mean() < sureness else (low, middle)
    return low


def _unit(vectors: Array) -> Array:
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _softmax(logits: Array) -> Array:
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)
