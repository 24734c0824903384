"""The exceptions that the command line prints as one line: bad input, and files that cannot be written or read."""


class Unwritable(OSError):
    """A result, or a unit of the store, cannot be written any more, for example because the disk is full.

    The message names the folder and the reason, and says what to do. The command line prints it without a traceback and
    exits with 1. The units that are in the store already stay there.
    """

    def __str__(self) -> str:
        return str(self.strerror or "")


class Unreadable(OSError):
    """A unit of the store cannot be read now, for example because of an error of the disk or of the network.

    Nothing is known to be wrong with the unit, and it stays in the store. The message names the store, the unit and the
    reason, and says what to do. The command line prints it without a traceback and exits with 1.
    """

    def __str__(self) -> str:
        return str(self.strerror or "")


class InputError(ValueError):
    """Bad input. The message names the input, says what is wrong with it and what to type instead.

    The command line prints it without a traceback and exits with 2. Code raises it before any long work starts, where
    the fault can be seen by then.
    """
