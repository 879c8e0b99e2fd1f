"""An error of ours as the exception by which Airflow fails a task for good, or retries it."""

from __future__ import annotations

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from kommuna.errors import EXIT_FAULT, KommunaError


class StepFailed(AirflowFailException):
    """The team's mistake, or a limit: no retry helps.

    Attributes:
        errors: what went wrong, each with its fields; a callback of the DAG's finds them here.
    """

    def __init__(self, *errors: KommunaError) -> None:
        super().__init__("\n".join(map(str, errors)))
        self.errors = errors


class StepToRetry(AirflowException):
    """The platform's trouble, or the step's own exception: Airflow tries the task again as its `retries` say.

    Attributes:
        errors: what went wrong, each with its fields.
    """

    def __init__(self, *errors: KommunaError) -> None:
        super().__init__("\n".join(map(str, errors)))
        self.errors = errors


def task_failure(error: KommunaError) -> StepFailed | StepToRetry:
    """The exception that a task ends with for an error."""
    return StepToRetry(error) if error.exit_code == EXIT_FAULT else StepFailed(error)
