"""What can be evaluated: one adapter a file, each gives a `Model`."""

from .base import Capabilities, LoadReport, Model
from .endpoint import Endpoint
from .load import load_model, load_network

__all__ = ["Capabilities", "Endpoint", "LoadReport", "Model", "load_model", "load_network"]
