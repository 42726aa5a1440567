"""The error that a user can correct, and what other errors mean."""

import errno
import signal

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, no quota, or a limit on the size of files
FULL_WORDS = ("No space left", "File too large", "Disk quota exceeded")


class InputError(ValueError):
    """Bad input: one line that says what was expected, what came, in which file or field, and what to do.

    `main` prints the line and exits with status 1; every other exception is a defect of ours.
    """


class Ended(KeyboardInterrupt):
    """Somebody asked this process to end: a batch system, an operator, or Ctrl-C. No error of anybody.

    Attributes:
      number: of the signal.
    """

    def __init__(self, number: int, said: str = ""):
        """`said` is what became of the work; nothing: what `one_line` says of all work."""
        super().__init__(said)
        self.number = signal.Signals(number)


def exit_status(error: BaseException) -> int:
    """What a process ends with: 1, or where it was asked to end 128 and the signal's number, as shells count."""
    if isinstance(error, KeyboardInterrupt):
        return 128 + getattr(error, "number", signal.SIGINT)
    return 1


def brief(error: BaseException, limit: int = 160) -> str:
    """Another library's error in at most `limit` characters of one line."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says so; the checkpoint writer knows no errno, only words."""
    while error is not None:
        if (isinstance(error, OSError) and error.errno in DISK_FULL) or any(word in str(error) for word in FULL_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def one_line(error: BaseException) -> str:
    """An error as the one line that a user reads."""
    if isinstance(error, KeyboardInterrupt):
        by = f"ended by {error.number.name}" if isinstance(error, Ended) else "interrupted"
        said = str(error) or f"{by}; nothing half-written stays, and the same command goes on from what is whole."
        return f"\n{said}"
    text = " ".join(str(error).split())
    if not isinstance(error, InputError) and disk_is_full(error):
        return (
            "error: the disk is full; free some space or give another folder. A run resumes from its last whole "
            "checkpoint when its command is given again."
        )
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return (
            f"error: {error.filename}: cannot be read or written ({error.strerror}); look whether its folder is there "
            "and may be written, and give the command again."
        )
    if isinstance(error, (InputError, FloatingPointError, OSError)):
        return f"error: {text}"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        return (
            "error: out of memory; lower config.train.batch_size, config.model.width or config.data.size, or take the "
            "batch in parts (config.train.accumulate)."
        )
    return f"error: {type(error).__name__}: {text} (this is a defect of dscgan_jax; --debug shows where)"
