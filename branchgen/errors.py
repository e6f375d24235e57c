"""The one exception that is shown to a user as a sentence, without a traceback."""


class BranchgenError(ValueError):
    """Something a user can put right; the message says what is wrong, where, and what would be right."""


class Terminated(BaseException):
    """A signal has ended the work; nothing half-written stays behind. Not an Exception, as KeyboardInterrupt is not."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
