"""What can go wrong in `detection`. Each message says what happened, where, and what to do."""


class DetectionError(Exception):
    """Base of every error that `detection` raises on purpose."""


class PictureError(DetectionError):
    """A picture cannot be read, or is not one that can be inspected."""


class WeightsError(DetectionError):
    """The backbone's pretrained weights are missing or are not what they should be."""


class ModelError(DetectionError):
    """A model cannot be trained, saved or loaded, or is asked for what it was not made for."""


class DatasetError(DetectionError):
    """A dataset folder is incomplete or contradicts itself."""


class DecisionError(DetectionError):
    """A verdict was asked for without every view's score: such a part is never silently good."""
