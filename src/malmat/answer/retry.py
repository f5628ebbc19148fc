"""The one retry policy: how often and how long a passing fault is tried again."""

from __future__ import annotations

import os
import random
import threading
from typing import Any

from malmat.answer.request import Retry

ATTEMPTS = 8


PATIENCE_S = 600.0
"""Waits that would end later than this after the first attempt are not begun."""


RETRY_SCALE = float(os.environ.get("MALMAT_RETRY_SCALE", "1"))
"""Scales the backoff (not what a server asks for); tests make it small."""


class Abandoned(Exception):
    """The run stopped while this item was waiting to be tried again."""


def retrying(stop: threading.Event | None = None) -> Any:
    """tenacity's loop over the attempts at something that raises ``Retry``.

    Args:
        stop: ends a wait at once when it is set, with ``Abandoned``.
    """
    from tenacity import (
        Retrying,
        retry_if_exception_type,
        stop_after_attempt,
        stop_any,
        stop_before_delay,
    )

    stop = stop or threading.Event()

    def pause(state: Any) -> float:
        backoff = min(60.0, 2.0 ** (state.attempt_number - 1)) * random.uniform(0.5, 1.0)
        return max(backoff * RETRY_SCALE, state.outcome.exception().after)

    def is_last(state: Any) -> bool:
        most = getattr(state.outcome.exception(), "most", None)
        return most is not None and state.attempt_number >= most

    def sleep(seconds: float) -> None:
        if stop.wait(seconds):
            raise Abandoned

    return Retrying(
        retry=retry_if_exception_type(Retry),
        stop=stop_any(
            stop_after_attempt(ATTEMPTS),
            stop_before_delay(PATIENCE_S),
            is_last,  # type: ignore[arg-type]
        ),
        wait=pause,
        sleep=sleep,
    )
