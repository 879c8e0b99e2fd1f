from .access import Access
from .lifecycle import Embedded
from .supervision import ProcessState

__all__ = ["Access", "Embedded", "ProcessState"]
