"""A fair arena for multimodal classification with missing modalities."""

__version__ = "0.1.0"
