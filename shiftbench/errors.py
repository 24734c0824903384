"""The one exception that means: what the user gave cannot be used."""


class InputError(ValueError):
    """Bad input: one message that names the input, what is wrong with it and what to do.

    The command line prints it without a traceback and exits with 2. Raise it before any long work starts.
    """
