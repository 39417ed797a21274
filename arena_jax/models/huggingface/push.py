"""A folder of a model sent to the Hugging Face Hub, or to a server that speaks its interface (`HF_ENDPOINT`)."""

from __future__ import annotations

import re
from pathlib import Path

from arena_jax.config.errors import ArenaError

_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def push_folder(folder: Path, repository: str, *, public: bool = False) -> str:
    """Send a folder to a repository of the Hub, which is made if it is not there, and is private.

    Args:
        folder: what is sent.
        repository: ``OWNER/NAME``.
        public: whether everybody may see it.

    Returns:
        The address of the commit.

    Raises:
        ArenaError: that is no name of a repository, nobody is logged in, the repository is there and public although
            ``public`` is False, or the Hub refuses.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    check_repository(repository)
    interface = huggingface_hub.HfApi()
    try:
        interface.create_repo(repository, private=not public, exist_ok=True)
        # One that was there keeps who may see it, whatever was asked for.
        if not public and not interface.model_info(repository).private:
            raise ArenaError(
                f"'{repository}' is there and public, and nothing was sent: give --public, or another name"
            )
        commit = interface.upload_folder(repo_id=repository, folder_path=folder, commit_message="Exported by arena-jax")
    except ArenaError:
        raise
    except LocalTokenNotFoundError:
        raise ArenaError(f"cannot push to '{repository}': nobody is logged in; `hf auth login`") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        advice = "; `hf auth login` with a token that may write" if status in (401, 403) else ""
        reason = (error.server_message or str(error).splitlines()[0])[:200]
        raise ArenaError(f"cannot push to '{repository}': {status}, {reason}{advice}") from None
    except (OSError, ValueError) as error:
        raise ArenaError(f"cannot push to '{repository}': {str(error).splitlines()[0][:200]}") from None
    return str(commit.commit_url)


def check_repository(repository: str) -> None:
    """Refuse what is no name of a repository.

    Raises:
        ArenaError: it is not ``OWNER/NAME``.
    """
    if not _ID.fullmatch(repository):
        raise ArenaError(f"--push is '{repository}': write OWNER/NAME, your name on the Hub and the model's")
