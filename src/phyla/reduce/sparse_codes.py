"""Sparse codes: a few of many learned features active in each image; for search in little room, and to look at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack
from sklearn.utils.validation import check_is_fitted, validate_data

from phyla.engine.local import run
from phyla.neighbors import nearest_neighbors
from phyla.reduce._adam import Adam
from phyla.reduce._reducer import Reducer, portions

__all__ = ["SparseCodes"]

_BATCH, _TASK = 512, 256  # rows a step, and a task of one thread; a row is told apart from the others of its task
_RATE = 1e-3  # of Adam; 3e-3 restores more, and neighbours are as alike
_ROUNDS = 200  # times that a row is seen at most: few rows are learned in less than the given steps
_TEMPERATURE = np.float32(0.1)  # of the contrast
_REVIVALS = 8  # times that silent units start anew, in the first four fifths of learning


class SparseCodes(Reducer):
    """Contrastive sparse representation (CSR: Wen et al., 2025): an autoencoder of which each row activates few units.

    Only a row's `n_active` strongest units are kept (k-sparse autoencoders: Makhzani and Frey, 2014), and no negative
    one. From these the decoder restores the row; and a row's code is to be more like that of one of its nearest
    neighbours (pairs as in TLDR) than like those of other rows. Units start as rows of X; one that no row activates any
    more starts anew from a row that is badly restored. Give X narrow, as principal components.

    O(n_steps · d · n_components), and n²·d for the neighbours; 50,000 × 192 take 41 s of one core.

    Parameters
    ----------
    n_components : units, h. n_active : how many of them a row activates, at most.
    contrast : weight of the likeness of neighbours, 0 for none: on CIFAR-10 and groceries, with it three to six points
        more of the ten nearest are of a row's class. n_neighbors : partners of a row, by cosine.
    n_steps : batches of 512 rows, at most 200 rounds. random_state : of start and batches. n_jobs : threads; the answer
        does not depend on how many.

    Attributes
    ----------
    mean_ : (d,). encoder_ : (h, d), bias_ : (h,), decoder_ : (h, d), the units most often active first.
    usage_ : (h,), share of the rows that activate each. loss_ : (steps,), of each batch.
    """

    VERSION = 1

    mean_: NDArray[np.float32]
    encoder_: NDArray[np.float32]
    bias_: NDArray[np.float32]
    decoder_: NDArray[np.float32]
    usage_: NDArray[np.float32]
    loss_: NDArray[np.float32]

    def __init__(
        self,
        n_components: int = 512,
        *,
        n_active: int = 16,
        contrast: float = 0.15,
        n_neighbors: int = 5,
        n_steps: int = 1000,
        random_state: int = 0,
        n_jobs: int = 1,
    ) -> None:
        self.n_components = n_components
        self.n_active = n_active
        self.contrast = contrast
        self.n_neighbors = n_neighbors
        self.n_steps = n_steps
        self.random_state = random_state
        self.n_jobs = n_jobs

    def encode(self, X: Any, n_active: int | None = None) -> csr_array:
        """Codes (n, h) of the rows of X (n, d) as a sparse array, of fewer active units if you say so."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float32, order="C")
        k = self.n_active if n_active is None else n_active
        if k < 1:
            raise ValueError(f"n_active={k} leaves nothing; give a whole number from 1")
        return vstack([csr_array(self._codes(rows, k)) for rows in portions(X)], format="csr")

    def inverse_transform(self, Z: Any) -> NDArray[np.float32]:
        """The rows (n, d) that codes (n, h), sparse or not, stand for."""
        check_is_fitted(self)
        return np.asarray(Z @ self.decoder_ + self.mean_, np.float32)

    def _transform(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._codes(X, self.n_active)

    def _codes(self, X: NDArray[np.float32], k: int) -> NDArray[np.float32]:
        # In doubles, or which units are strongest would depend on where a row stands.
        units = (X - self.mean_.astype(np.float64)) @ self.encoder_.T.astype(np.float64) + self.bias_
        return strongest(units.astype(np.float32), k)

    def _fit(self, X: NDArray[np.float32], rng: np.random.Generator) -> None:
        if self.n_active < 1 or self.contrast < 0:
            raise ValueError(f"n_active={self.n_active}, contrast={self.contrast}; give at least 1 and 0")
        n = len(X)
        self.mean_ = X.mean(0, dtype=np.float64).astype(np.float32)
        apart = X - self.mean_
        size = np.float32(np.sqrt((apart**2).mean(dtype=np.float64)))
        if size <= 1e-6 * np.abs(self.mean_).max():  # rounding errors of equal rows
            apart, size = np.zeros_like(X), np.float32(1)
        apart /= size
        pairs = np.arange(n, dtype=np.int32)[:, None]
        if self.contrast:
            near, _ = nearest_neighbors(apart, min(self.n_neighbors, n - 1), "cosine", self.n_jobs)
            pairs = np.hstack([pairs, near])
        encoder, self.bias_, decoder = self._learn(apart, pairs, rng)
        self.encoder_, self.decoder_ = encoder / size, decoder * size

        active = sum((self._transform(rows) > 0).sum(0) for rows in portions(X))
        order = np.argsort(-active, kind="stable")
        self.usage_ = (active[order] / n).astype(np.float32)
        self.encoder_, self.bias_, self.decoder_ = self.encoder_[order], self.bias_[order], self.decoder_[order]

    def _start(self, X: NDArray[np.float32], rng: np.random.Generator) -> list[NDArray[np.float32]]:
        """Encoder (h, d), bias (h,) and decoder (h, d) from rows of X, such that lengths are restored."""
        h, d = self.n_components, X.shape[1]
        decoder = X[rng.choice(len(X), h, replace=h > len(X))]
        decoder = normalised(decoder + 0.1 * rng.normal(size=(h, d)).astype(np.float32))
        some = X[:_BATCH]
        restored = strongest(some @ decoder.T, self.n_active) @ decoder
        length = (restored * some).sum() / max((restored**2).sum(), 1e-12)
        return [decoder * np.float32(length), np.zeros(h, np.float32), decoder]

    def _learn(
        self, X: NDArray[np.float32], pairs: NDArray[np.int32], rng: np.random.Generator
    ) -> list[NDArray[np.float32]]:
        """The weights for X (n, d), centred and scaled; `pairs` (n, 1 + m) are each row and its m neighbours."""
        weights = self._start(X, rng)
        batch = min(_BATCH, len(X))
        steps = min(self.n_steps, _ROUNDS * -(-len(X) // batch))
        adam = Adam(weights, _RATE, steps)
        pause = max(steps * 4 // 5 // max(_REVIVALS, 1), 1)
        self.loss_ = np.zeros(steps, np.float32)
        order, active = np.empty(0, np.intp), np.zeros(self.n_components, np.int64)

        def task(rows: NDArray[np.int32]) -> Any:
            return loss(X[rows.T.ravel()], weights, self.n_active, self.contrast)

        for step in range(steps):
            if len(order) < batch:
                order = rng.permutation(len(X))
            rows, order = pairs[order[:batch]], order[batch:]
            if self.contrast:
                twins = rng.integers(1, rows.shape[1], size=batch)
                rows = np.column_stack([rows[:, 0], rows[np.arange(batch), twins]])
            found = list(run(task, np.array_split(rows, -(-batch // _TASK)), self.n_jobs))
            self.loss_[step] = np.mean([value for value, *_ in found])
            gradients = zip(*(of for _, of, _, _ in found), strict=True)
            adam.step([sum(of) / len(found) for of in gradients])
            weights[-1][:] = normalised(weights[-1])

            active += sum((codes > 0).sum(0) for _, _, codes, _ in found)
            if step % pause == pause - 1 and step < pause * _REVIVALS:
                silent = np.flatnonzero(active == 0)
                _revive(silent, weights, np.concatenate([errors for *_, errors in found]), rng)
                adam.forget(silent)
                active[:] = 0
        return weights


def _revive(
    silent: NDArray[np.intp],
    weights: list[NDArray[np.float32]],
    errors: NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    """Start the units `silent` anew from errors (m, d), drawn by their square."""
    encoder, bias, decoder = weights
    bad = (errors**2).sum(1, dtype=np.float64)
    if bad.any():
        decoder[silent] = normalised(errors[rng.choice(len(bad), len(silent), p=bad / bad.sum())])
        encoder[silent] = decoder[silent] * np.linalg.norm(encoder, axis=1).mean()
        bias[silent] = 0


def loss(
    X: NDArray[np.float32], weights: list[NDArray[np.float32]], k: int, contrast: float
) -> tuple[float, list[NDArray[np.float32]], NDArray[np.float32], NDArray[np.float32]]:
    """Loss of X (m, d), whose second half are the neighbours of the first if there is contrast.

    With its gradient for each of the weights, encoder, bias and decoder; the codes (m, h), and the errors (m, d).
    """
    encoder, bias, decoder = weights
    codes = strongest(X @ encoder.T + bias, k)
    errors = X - codes @ decoder
    value = float((errors**2).mean())
    down = errors * np.float32(-2 / X.size)
    dZ = down @ decoder.T
    if contrast:
        unlike, dU = _unlike(codes)
        value += contrast * unlike
        dZ += np.float32(contrast) * dU
    dZ *= codes > 0
    return value, [dZ.T @ X, dZ.sum(0), codes.T @ down], codes, errors


def _unlike(Z: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
    """Cross-entropy of telling a code's neighbour from the other codes by the cosine, and its gradient.

    The two halves of Z (2b, h) are pairs; each half is asked for the other (InfoNCE: van den Oord et al., 2018).
    """
    b = len(Z) // 2
    length = np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), 1e-6)
    unit = Z / length
    logits = unit[:b] @ unit[b:].T / _TEMPERATURE
    value, d = 0.0, np.zeros_like(logits)
    for axis in (0, 1):
        shifted = logits - logits.max(axis, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(axis, keepdims=True))
        value -= float(np.trace(shifted - log_sum)) / (2 * b)
        d += np.exp(shifted - log_sum) / (2 * b)
    d[np.arange(b), np.arange(b)] -= 1 / b
    dU = np.concatenate([d @ unit[b:], d.T @ unit[:b]]) / _TEMPERATURE
    return value, (dU - unit * (dU * unit).sum(1, keepdims=True)) / length


def strongest(units: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """`units` (n, h) with all but the k largest of each row, and all that are negative, set to zero."""
    if k >= units.shape[1]:
        return np.maximum(units, 0)
    which = np.argpartition(units, -k, axis=1)[:, -k:]
    codes = np.zeros_like(units)
    np.put_along_axis(codes, which, np.maximum(np.take_along_axis(units, which, 1), 0), 1)
    return codes


def normalised(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length one."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
