"""Limits of a step: processor cores, memory and wall time."""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

from kommuna.spec.base import Spec

UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_MEMORY = re.compile(r"^(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|k|M|G|T)?$")
_CPU = re.compile(r"^(\d+(?:\.\d+)?)(m?)$")


def memory_bytes(quantity: str) -> int:
    """Converts a Kubernetes memory quantity to bytes.

    >>> memory_bytes("1.5Gi")
    1610612736
    """
    match = _MEMORY.match(quantity)
    if not match:
        raise ValueError(f"'{quantity}' is not a memory quantity: write it as 512Mi or 2Gi")
    return int(float(match[1]) * UNITS[match[2] or ""])


def cpu_cores(quantity: str) -> float:
    """Converts a Kubernetes CPU quantity to cores.

    >>> cpu_cores("500m")
    0.5
    """
    match = _CPU.match(quantity)
    if not match:
        raise ValueError(f"'{quantity}' is not a processor quantity: write it as 500m or 2")
    return float(match[1]) / (1000 if match[2] else 1)


def _check_memory(value: str) -> str:
    memory_bytes(value)
    return value


def _check_cpu(value: str) -> str:
    cpu_cores(value)
    return value


# The pattern is for tools that read the JSON schema (editors, Helm). Our own messages say more than a mismatch.
Memory = Annotated[str, AfterValidator(_check_memory), WithJsonSchema({"type": "string", "pattern": _MEMORY.pattern})]
Cpu = Annotated[str, AfterValidator(_check_cpu), WithJsonSchema({"type": "string", "pattern": _CPU.pattern})]


class Resources(Spec):
    """Limits of one step. On Kubernetes they are the pod's requests and limits."""

    cpu: Cpu = Field("1", description="Processor cores, as Kubernetes writes them: 500m, 2.")
    memory: Memory = Field("4Gi", description="Memory limit, as Kubernetes writes it: 512Mi, 4Gi.")
    seconds: int = Field(3600, gt=0, description="Wall time after which the step is ended, in seconds.")

    @property
    def memory_bytes(self) -> int:
        """The memory limit in bytes."""
        return memory_bytes(self.memory)


def threads(resources: Resources) -> int:
    """Returns the number of threads of a step's libraries: one per requested core, regardless of the node's cores.

    >>> threads(Resources(cpu="1500m"))
    2
    """
    return max(1, math.ceil(cpu_cores(resources.cpu)))
