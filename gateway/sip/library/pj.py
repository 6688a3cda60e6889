"""
The one import of pjsua2.

On a Python without it every module still imports; the first use of the library says what is missing. The wheel has no
types: mypy reads those of ``stubs/pjsua2``, which declare what is used of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from gateway.errors import SipError

__all__ = ["MISSING", "pj"]

MISSING = (
    "pjsua2 is not installed for this Python, so there is no SIP here. Its wheels (pjsua2-python) exist for "
    "CPython 3.12 and older: use Python 3.11 or 3.12, or install the pjsua2 module of your own pjproject build"
)


class _MissingLibrary:
    """Stands in for the module: its classes can be subclassed, but not made."""

    def __getattr__(self, name: str) -> type:
        def refuse(*_args: object, **_kwargs: object) -> NoReturn:
            raise SipError(MISSING)

        return type(name, (), {"__new__": refuse})


def _load() -> Any:
    try:
        import pjsua2
    except ImportError:
        return _MissingLibrary()
    return pjsua2


if TYPE_CHECKING:
    import pjsua2 as pj
else:
    pj = _load()
