"""Wide vectors → narrow ones, and 2-D maps. One file a method, a scikit-learn transformer."""
