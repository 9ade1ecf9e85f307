"""Administration of a store: examine it, repair or reorder its spatial index; the command line."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ngdata.admin.doctor import Finding, examine

__all__ = ["Finding", "examine"]

if not TYPE_CHECKING:  # else type checkers would accept any name

    def __getattr__(name: str) -> Any:
        # The command line is in this package, and most commands need no checks.
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from ngdata.admin import doctor

        return getattr(doctor, name)


def __dir__() -> list[str]:
    return list(__all__)
