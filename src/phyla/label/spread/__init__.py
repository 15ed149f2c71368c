"""Few answers → all images. One file a way of spreading them.

A way is a class with `fit(X, y, groups=None)`, where y is −1 for what nobody was asked, and
`predict_proba(X) → (n, c)`, for these images and for new ones.
"""
