"""From cases to tokens: preprocessing, the encoders that all methods share, and features."""

from bench.encoders.inputs import Inputs, ModalityInput
from bench.encoders.model import Encoders
from bench.encoders.preprocessing import Preprocessor, fit_preprocessor

__all__ = ["Encoders", "Inputs", "ModalityInput", "Preprocessor", "fit_preprocessor"]
