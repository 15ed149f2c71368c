"""Which images to ask a person about next. One function a file.

A way to ask is a function `(n, rng, *, needs) → [(row, reason)]`: up to n rows that have no answer yet, the most useful
first, each with the reason in plain words. Needs are keyword arguments: `X` (n, d), the leading axes; `groups` (n,) and
`strength` (n,) of a grouping; `labels` (n,), class codes, −1 where nothing was answered; `proba` (n, c), what is
believed now; `neighbors`, indices and distances (n, k), nearest first; `classes`, names by code. One without a default
is necessary: a way that needs `proba` is no way to begin.
"""
