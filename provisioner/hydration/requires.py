"""What a kernelspec demands of its Python."""

from __future__ import annotations

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from provisioner.core.errors import HydrationFailed


def check_python(required: str, version: str) -> None:
    """Refuse a Python that is not what was asked for.

    Parameters
    ----------
    required
        A version specifier, such as `>=3.11`.
    version
        The interpreter's version.

    Raises
    ------
    HydrationFailed
        It does not fit, or `required` is no specifier.
    """
    try:
        fits = SpecifierSet(required).contains(version, prereleases=True)
    except InvalidSpecifier:
        raise HydrationFailed(
            f"requires-python {required!r} is no version specifier: write it like '>=3.11'"
        ) from None
    if not fits:
        raise HydrationFailed(
            f"requires-python is {required!r}, and the kernel's interpreter is "
            f"Python {version}: choose another kernel or widen it"
        )
