"""What can be evaluated: one adapter a file, each gives a `Model`."""

from .base import Capabilities, LoadReport, Model
from .load import load_model

__all__ = ["Capabilities", "LoadReport", "Model", "load_model"]
