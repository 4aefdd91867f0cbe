"""cpt: what each way of post-training a multimodal model, one task after another, costs in what it already knew."""

__version__ = "0.1.0"
