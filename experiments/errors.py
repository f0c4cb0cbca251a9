"""One line for every error: what is wrong, where, and what to do."""

import errno
import re
import sys
import traceback
from pathlib import Path

from experiments.compose import ConfigError

_OURS = Path(__file__).parents[1]
# torch's errors by name and message: nothing heavy is imported only to report an error.
_OUT_OF_MEMORY = re.compile(r"OutOfMemoryError|DefaultCPUAllocator|CUDA out of memory")
_LOST_PEER = ("DistBackendError", "DistNetworkError", "DistStoreError")
_LOST_PEER_MESSAGE = re.compile(r"gloo.*(peer|pipe|[Tt]imed out|connect)|Connection closed by peer")


def report(error: BaseException) -> int:
    """Print `error` as one line on stderr and return the exit status it asks for."""
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        return error.code or 0
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return 130
    print(f"error: {one_line(error)}", file=sys.stderr)
    return 2 if isinstance(error, ConfigError | SystemExit) else 1


def one_line(error: BaseException) -> str:
    """The error as one line; one that we did not word ourselves says where it came from."""
    error = _innermost(error)
    message = " ".join(str(error).split())
    if isinstance(error, ConfigError | SystemExit):
        return message
    if known := _known(error, message):
        return known
    frames = traceback.extract_tb(error.__traceback__)
    raised = Path(frames[-1].filename) if frames else None
    if raised and raised.is_relative_to(_OURS) and "site-packages" not in raised.parts:
        return message or type(error).__name__
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(_OURS)]
    ours = [frame for frame in ours if "site-packages" not in frame.filename]
    where = f" ({Path(ours[-1].filename).name}:{ours[-1].lineno})" if ours else ""
    if len(message) > 400:
        message = message[:400] + " ..."
    return f"{type(error).__name__}: {message}{where}; --traceback shows the rest"


def is_lost_peer(error: BaseException) -> bool:
    """Whether this process failed only because another one of the run is gone."""
    return type(error).__name__ in _LOST_PEER or bool(_LOST_PEER_MESSAGE.search(str(error)))


def _known(error: BaseException, message: str) -> str | None:
    """What to say of failures that are not the program's, and what to do about them."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f" at {error.filename}" if error.filename else ""
        return f"no space left on the disk{where}; free some, then go on (--ckpt_path last) or anew"
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(f"{type(error).__name__} {message}"):
        wanted = re.search(r"tried to allocate ([\d.]+ \w+)", message, re.IGNORECASE)
        return (
            f"out of memory{f' (wanted {wanted[1]} more)' if wanted else ''}; halve "
            "--data.init_args.batch_size and double --trainer.accumulate_grad_batches, which is "
            "the same batch, or compute in less precision (--trainer.precision bf16-mixed)"
        )
    if "DataLoader worker" in message:
        return (
            f"a process that loads data has died ({message}); often the machine has too little "
            "memory: lower --data.init_args.num_workers, then go on (--ckpt_path last) or anew"
        )
    if is_lost_peer(error):
        return f"another process of this run has ended; it says why ({message[:200]})"
    return None


def _innermost(error: BaseException) -> BaseException:
    """What a constructor raised, where the config parser has wrapped it in its own words."""
    while str(error).startswith("Does not validate against") and error.__cause__ is not None:
        error = error.__cause__
    return error
