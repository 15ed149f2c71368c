"""Groups and few answers → a small classifier, as one file that runs without Phyla.

`Head` is what is learnt on a network's features, `write` puts it behind the network into an ONNX file, `read` gives
such a file back as a `Model`.
"""
