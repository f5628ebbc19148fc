"""What is said of a model that cannot be had, at once.

Left to itself the hub's client tries each file of a model six times: half a minute a file, where
the network is not there.
"""

from __future__ import annotations

import functools
from pathlib import Path

from malmat.errors import InputError

_SECONDS = 20


@functools.cache
def check_hub(name: str, field: str = "model_name") -> None:
    """Look a model up on the hub, unless it is in the cache, a folder, or the hub is turned off
    (HF_HUB_OFFLINE).

    Raises:
        InputError: there is no such model, it may not be read, or the hub cannot be reached.
    """
    import httpx
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    if "/" not in name or Path(name).exists():
        return
    kept = (try_to_load_from_cache(name, f) for f in ("config.json", "adapter_config.json"))
    if any(isinstance(path, str) for path in kept):
        return
    try:
        HfApi().model_info(name, timeout=_SECONDS)
    except RepositoryNotFoundError:
        fix = "Check the name; what is not public needs a token (hf auth login, or HF_TOKEN)."
        raise InputError(f"no model '{name}' on the hub", field=field, fix=fix) from None
    except httpx.TransportError as error:
        problem = f"'{name}' is not on this machine, and the hub cannot be reached ({error})"
        raise InputError(problem, field=field, fix="Check the name and the network.") from None
    except (HfHubHTTPError, OfflineModeIsEnabled):
        return  # loading says what it is


def no_model(name: str, error: Exception) -> InputError:
    """The error of a model that could not be loaded, with the way out."""
    if "trust_remote_code" in str(error):
        return InputError(
            f"'{name}' brings code of its own, which is run only on request",
            field="trust_remote_code",
            fix="Read that code, then give --trust_remote_code.",
        )
    reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
    return InputError(
        f"'{name}' could not be loaded ({type(error).__name__}: {reason})",
        field="model_name",
        fix="Check the name, the network and the access rights, or use 'embedded'.",
    )
