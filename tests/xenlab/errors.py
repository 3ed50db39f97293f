"""What the lab has to say to the person who runs it."""


class LabError(Exception):
    """The lab cannot do it; the message says why and, where it can, what to type."""
