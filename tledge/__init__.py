"""A folder of labelled photos in, a verified edge engine out, with one number to trust at every stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tledge.runtime import Model, Prediction, load

__version__ = "0.1.0"
__all__ = ["Model", "Prediction", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import the runtime when it is first asked for: `tledge --help` must not wait for it."""
    if name in ("Model", "Prediction", "load"):
        from tledge import runtime

        return getattr(runtime, name)
    raise AttributeError(f"module 'tledge' has no attribute {name!r}")
