"""From libav's errors to ours: what happened to which source, and what to do."""

from __future__ import annotations

import errno

from tledge.errors import InputError, MachineError, TledgeError

_GONE = (errno.ENODEV, errno.ENXIO, errno.EIO)
_UNREACHABLE = (
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EPIPE,
    errno.ETIMEDOUT,
)


def explained(error: Exception, name: str, *, opening: bool, frames: int = 0) -> TledgeError:
    """Return libav's `error` in our words.

    Args:
        error: an `av.error.FFmpegError`.
        name: the source.
        opening: whether it was being opened, or read.
        frames: how many frames it had given.
    """
    number = getattr(error, "errno", None)
    said = getattr(error, "strerror", None) or str(error)
    if _timed_out(error):
        said = "nothing came in time"
    remote = "://" in name
    device = name.startswith("/dev/")
    after = "" if opening else f" after {frames} frames"
    if number in (errno.EACCES, errno.EPERM):
        hint = "Join the group: sudo usermod -aG video $USER." if device else "Give yourself permission."
        return MachineError(f"{name} may not be read by this user", hint=hint, path=name)
    if number == errno.EBUSY:
        return MachineError(
            f"{name} is in use by another program", hint=f"Find and end it: fuser {name}.", path=name
        )
    if opening and number == errno.ENOENT:
        hint = "List the cameras: ls /dev/video*; is it plugged in?" if device else "Check the path."
        return InputError(f"there is no {name}", hint=hint, path=name)
    if device and number in (errno.ENOTTY, errno.EINVAL) and opening:
        return InputError(
            f"{name} is no camera, or not in this format and size ({said})",
            hint=f"See what it gives: v4l2-ctl -d {name} --list-formats-ext; then --format, --size, --rate.",
            path=name,
        )
    if device and number in _GONE:
        return InputError(
            f"{name} is gone{after} ({said}): it was unplugged",
            hint="Plug it in and run it again; dmesg says what the kernel saw.",
            path=name,
        )
    if remote and (number in _UNREACHABLE or _timed_out(error) or number == errno.EIO):
        what = "cannot be reached" if opening else f"is gone{after}"
        return InputError(
            f"{name} {what} ({said})",
            hint="Is the server on, the address right, the network up? Run it again.",
            path=name,
        )
    if type(error).__name__.startswith("HTTP"):
        return InputError(
            f"{name} was refused by its server ({said})",
            hint="Check path, user and password: rtsp://USER:PASSWORD@HOST/PATH.",
            path=name,
        )
    if opening:
        return InputError(
            f"{name} is no video that can be read ({said})",
            hint="It may be cut off, empty or of another kind; "
            + ("is its server a video server?" if remote else f"look at it: ffprobe {name}."),
            path=name,
        )
    return InputError(
        f"{name} cannot be read on{after} ({said})",
        hint="The frames before were answered. Copy or record it again.",
        path=name,
    )


def _timed_out(error: Exception) -> bool:
    """Tell PyAV's own time-out, which interrupts libav."""
    return type(error).__name__ in ("ExitError", "TimeoutError")
