"""Upload of a result to the Hugging Face hub: the right to it is shown before the training."""

from __future__ import annotations

from pathlib import Path

from malmat.cli import relative
from malmat.errors import InputError, StopRunning


def check_upload(
    repo: str | None, *, private: bool, dry_run: bool, field: str = "push_to_hub"
) -> None:
    """Show that a result can be uploaded, where that was asked for.

    The repository is made, but for ``dry_run``, since nothing else shows for sure that a token
    may make it.

    Args:
        repo: ``owner/name``; None: nothing was asked for.
        field: the option that names it.

    Raises:
        InputError: offline, no token, or no right to write there.
    """
    if not repo:
        return
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        api.whoami()
        if not dry_run:
            api.create_repo(repo, private=private, exist_ok=True)
        try:
            api.auth_check(repo, write=True)
        except HfHubHTTPError as error:
            if error.response.status_code != 404:  # not made yet, or a hub that does not know this
                raise
    except _errors() as error:
        raise InputError(
            f"'{repo}' cannot be uploaded to: {_reason(error)}",
            field=field,
            fix="Log in with a token that may write there (hf auth login, or HF_TOKEN), or leave "
            "it out.",
        ) from None


def upload(repo: str | None, output: Path, *, private: bool) -> None:
    """Upload the folder of a result where that was asked for.

    Raises:
        StopRunning: it did not work; the result is kept.
    """
    if not repo:
        return
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo, folder_path=output, ignore_patterns=["checkpoint-*", "runs/*"]
        )
    except _errors() as error:
        raise StopRunning(
            f"the upload to '{repo}' failed ({_reason(error)}); the result is whole in "
            f"{relative(output)}: the same command uploads it again"
        ) from None
    print(f"uploaded {repo} ({'private' if private else 'public'})")


def _errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises: for a status, without a connection, offline, for a name."""
    import httpx

    return httpx.HTTPError, OSError, ValueError, RuntimeError


def _reason(error: Exception) -> str:
    """The last line of an error of the hub's, which holds the server's words."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:200]}" if lines else type(error).__name__
