"""What a check returns."""

Found = tuple[tuple[int, ...], float, str]  # rows, severity 0..1, why
