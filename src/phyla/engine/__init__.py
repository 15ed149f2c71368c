"""Run a function over tasks. An engine knows nothing of images.

One file an engine; it offers one function, `run(function, tasks, workers)`, that yields the results in the order of
the tasks.
"""
