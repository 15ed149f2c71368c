"""Features → groups. One file a method: a scikit-learn clusterer, most simply a subclass of `_grouper.Grouper`.

Beside `fit` and `predict`, a grouping method has `labels_` and `strength_` (0..1) of what it was fitted to, and
`assign(X) → (labels, strength)` for anything else. `n_clusters=None` has it find their number; it then keeps what it
found in `n_clusters_`, and what it went by in `evidence_` (rows of number, score, and what that is made of). `blocks`,
where a method takes it, gives the widths of the feature spaces that stand side by side in X, most telling axis first.
`AGREEMENT` is the strength under which an image is better left out; `EFFORT` says which parameters "fast" and "best"
change. Fitted attributes that are arrays are all there is to save; `VERSION` rises whenever a method's numbers change.
"""

from phyla.cluster._compare import FEWEST, compare
from phyla.cluster._drift import drift
from phyla.cluster._how_many import EVIDENCE
from phyla.cluster._judge import score, typicality
from phyla.cluster._landmarks import LANDMARKS, fit
from phyla.cluster._spaces import SMALL, leading

__all__ = ["EVIDENCE", "FEWEST", "LANDMARKS", "SMALL", "compare", "drift", "fit", "leading", "score", "typicality"]
