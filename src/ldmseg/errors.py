"""The one error a user can cause."""


class InputError(ValueError):
    """A user's mistake: the message is one line that names the argument, what was expected and what came.

    The command line prints it and exits with code 2; the library raises it before anything is computed or written.
    """
