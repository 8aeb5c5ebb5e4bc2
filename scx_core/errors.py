"""The one exception for mistakes that a user can make and mend."""


class ScxError(ValueError):
    """A user's mistake: what is wrong (naming the file, column or gene) and what to do about it.

    The command line prints it as one line and exits with 2; the app shows it as a message. Anything
    else that is raised is a bug.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = " ".join(problem.split())
        self.remedy = " ".join(remedy.split())
        super().__init__(f"{self.problem} {self.remedy}".strip())
