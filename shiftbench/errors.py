"""The exceptions that mean: what the user gave cannot be used, or what was computed cannot be written."""


class Unwritable(OSError):
    """What was computed cannot be written, although the place was found good when the work began: a full disk.

    One message that names the place, how much is needed and how much is missing. The command line prints it without a
    traceback and exits with 1; what is in the store stays.
    """

    def __str__(self) -> str:
        return str(self.strerror or "")


class InputError(ValueError):
    """Bad input: one message that names the input, what is wrong with it and what to do.

    The command line prints it without a traceback and exits with 2. Raise it before any long work starts.
    """
