"""The one exception that is shown to a user as a sentence, without a traceback."""


class BranchgenError(ValueError):
    """Something a user can put right; the message says what is wrong, where, and what would be right."""
