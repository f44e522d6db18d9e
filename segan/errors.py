"""What can go wrong because of the user's input or data, and the exit code each one ends with.

Every message is one line: what is wrong, where, and what would be right.
"""


class SeganError(Exception):
    """An error explained in one line; `exit_code` is what the command line returns for it."""

    exit_code = 2


class ConfigError(SeganError):
    """A wrong key, value, flag, path or combination of them: mend the command or the file."""


class DataError(SeganError):
    """The data cannot be used: too many unreadable files, or nothing left to train on."""

    exit_code = 3


class DivergenceError(SeganError):
    """Training produced non-finite numbers, or collapsed for good and was told to stop then."""

    exit_code = 4


class ParityError(SeganError):
    """An exported file does not give the masks of the segmenter it came from."""

    exit_code = 5


class Interrupted(SeganError):
    """A signal stopped the run after its state was saved; the command resumes it."""

    exit_code = 75
