"""Which modality, which level? Heads trained to their optimum, and nested, grouped selection among
them."""
