"""Which modality, which level? Heads trained to their optimum, and nested, grouped selection among
them, for any modalities.

Taught in chapters 6 and 10.
"""
