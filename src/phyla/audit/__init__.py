"""What is wrong with a collection: one file a check.

A check is a function of keyword arguments, which are its needs, that returns `[(rows, severity, why), …]`, most severe
first: the rows concerned, 0.5 (worth a look) to 1 (sure), and one plain sentence. A check whose needs are not all there
is skipped, and that is said. n images, d axes, k neighbours, c classes:

- `X (n, d)`: all whitened axes of all networks, side by side, read when asked for (`X[rows]`; `X[:]` is all of them);
  `blocks`: how many belong to each; `near (n, e)`: the leading ones, in which near images are alike; `residual (n,
  networks)`: what the axes leave out.
- `neighbors`: indices and distances (n, k), nearest first, among the leading axes.
- `groups (n,)`, `strength (n,)`: the grouping; `labels (n,)`, `classes`: what is known of each image, −1 = nothing;
  `proba (n, c)`: what the last spread made of the labels.
- `names`: of the groups. `facts`: name → (n,), how each picture was made: camera, date, size, …
- `width, height (n,)`: pixels as stored; `folder (n,)`: where each lies.
- `measured`: column → (n, …), what `measure` and `facts` told in one pass over the files.
- `n_jobs`: threads; what is found does not depend on how many. `run`: an engine's, `(function, tasks, n_jobs)`, for
  passes over X.
"""

from phyla.audit._found import Found
from phyla.audit._measure import SIDE as MEASURE_SIDE
from phyla.audit._measure import VERSION as MEASURE_VERSION
from phyla.audit._measure import background, facts, gather, measure

__all__ = ["MEASURE_SIDE", "MEASURE_VERSION", "Found", "background", "facts", "gather", "measure"]
