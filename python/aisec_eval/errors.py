"""Everything the engine refuses, by name. Each message is one line: what, where, what to do."""


class AisecError(Exception):
    """Base of every error raised on purpose; `exit_code` is what the command line returns."""

    exit_code = 2


class InputError(AisecError, ValueError):
    """An array, label, epsilon or option does not fit what was asked."""


class DatasetError(AisecError):
    """A dataset is missing, unreadable, empty or of the wrong shape."""


class ModelImportError(AisecError):
    """A model file or object cannot be read or does not behave as declared."""

    exit_code = 5


class UnsupportedOperationError(ModelImportError):
    """The model uses an operator the engine does not know; names it and what still works."""


class CapabilityError(AisecError):
    """The method needs something the model does not offer (gradients, a graph, scores)."""

    exit_code = 5


class EndpointError(AisecError):
    """A black-box endpoint refused, failed, answered garbage, or its query budget is spent."""

    exit_code = 5


class UnsafeArtifactError(AisecError):
    """A file would run code, leave its folder or exhaust memory; it was not loaded."""

    exit_code = 4


class SuiteError(AisecError):
    """A suite file is invalid; the message names the file, the line and the key."""


class RunError(AisecError):
    """A run folder cannot be read, written or resumed."""


class IncompleteRunError(AisecError):
    """Some shards failed; everything that finished is kept and the run can be resumed."""

    exit_code = 3
