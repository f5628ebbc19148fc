"""The tasks by name: what ``infer.py``, ``score.py``, the report and the leak gate know of them.

A new task is a file that declares a ``Task``, and its name in this list.
"""

from __future__ import annotations

import meaning
import reply
import understand
import usage
from malmat.evaluate.task import Task

TASKS: dict[str, Task] = {
    task.name: task for task in (reply.REPLY, meaning.TASK, reply.LOSS, understand.TASK, usage.TASK)
}
