"""Speed and memory, each figure beside its peer or its limit, measured in one run: python -m
benchmarks."""
