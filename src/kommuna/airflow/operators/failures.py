"""Turns a Kommuna error into the exception by which Airflow fails a task for good, or retries it."""

from __future__ import annotations

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from kommuna.errors import EXIT_FAULT, KommunaError


class StepFailed(AirflowFailException):
    """Fails the task without a retry: the team's mistake, or a limit that was exceeded.

    Attributes:
        errors: the errors with their fields, for a callback of the DAG.
    """

    def __init__(self, *errors: KommunaError) -> None:
        super().__init__("\n".join(map(str, errors)))
        self.errors = errors


class StepToRetry(AirflowException):
    """Fails this attempt: a fault of the platform, or the step's own exception. Airflow retries by `retries`.

    Attributes:
        errors: the errors with their fields.
    """

    def __init__(self, *errors: KommunaError) -> None:
        super().__init__("\n".join(map(str, errors)))
        self.errors = errors


def task_failure(error: KommunaError) -> StepFailed | StepToRetry:
    """Returns the exception that a task raises for an error."""
    return StepToRetry(error) if error.exit_code == EXIT_FAULT else StepFailed(error)
