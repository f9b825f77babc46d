"""The one exception for what a user can cause and mend."""


class InputError(ValueError):
    """Wrong input: an option, a path, a file. The message is one line: the rule, what was given, the way out.

    The command line prints it without a traceback and exits with code 2.
    """
