"""The one exception that bad input raises."""


class UserError(Exception):
    """Something the user gave is wrong.

    The message is one sentence that names the file, the field and what was expected. Commands print it to standard
    error and exit with status 2; nothing has been overwritten when it is raised.
    """
