"""Values as texts for a picture: ids and integers in full, and nothing that is taken for markup."""

from __future__ import annotations

import html
import re
from typing import Any, Final

import numpy as np
import pandas as pd

from ngdata._arguments.numbers import number_text
from ngdata.plot.frames import reads_column

__all__ = ["MISSING", "brief", "plain", "texts"]

MISSING: Final = "-"

_MAX_LENGTH: Final = 200

# Characters of an entry of the legend.
_MAX_BRIEF: Final = 30

_UUID: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def plain(value: object) -> str:
    """Return a value as text that a browser shows as it is.

    plotly reads a few HTML tags in texts, and inserts values for ``%{...}``.

    Examples
    --------
    >>> from ngdata.plot.texts import plain
    >>> plain("<b>%{x}")
    '&lt;b&gt;%&#123;x}'
    """
    try:
        text = str(value)
    except Exception:  # any object may be a value
        text = f"<{type(value).__name__}>"
    text = text if len(text) <= _MAX_LENGTH else f"{text[: _MAX_LENGTH - 1]}…"
    # Half of a surrogate pair cannot be in the JSON of a page.
    text = text.encode("utf-8", "replace").decode()
    return html.escape(text, quote=False).replace("%{", "%&#123;")


def brief(value: object) -> str:
    """Return a value as text that leaves room for the picture beside a legend.

    Examples
    --------
    >>> from ngdata.plot.texts import brief
    >>> brief("00000000-0000-4000-8000-000000000001")
    '00000000…0001'
    >>> brief("Ventral cord motor neurons, innervate dorsal muscles")
    'Ventral cord moto…sal muscles'
    """
    text = str(value)
    if _UUID.fullmatch(text):
        return f"{text[:8]}…{text[-4:]}"
    is_long = len(text) > _MAX_BRIEF
    return plain(f"{text[:17]}…{text[-11:]}" if is_long else text)


@reads_column
def texts(values: pd.Series[Any]) -> np.ndarray:
    """Return the values of a column as texts, `MISSING` where there is none."""
    missing = values.isna().to_numpy()
    if pd.api.types.is_float_dtype(values.dtype):
        written = map(number_text, values.to_numpy(np.float64, na_value=np.nan).tolist())
    else:
        written = map(plain, values.array)
    pairs = zip(written, missing, strict=True)
    result = np.empty(len(values), object)
    result[:] = [MISSING if is_missing else text for text, is_missing in pairs]
    return result
