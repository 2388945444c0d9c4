"""Reads GEM-Bench's JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from simenv.errors import DataFileError
from simenv.files.limits import read_bytes


def read_json(path: Path) -> Any:
    """The content of a .json file.

    Raises:
        DataFileError: the file cannot be read, is not UTF-8 or not JSON, is nested too deeply, or has a lone surrogate
            in a text: it could not be written to a file.
    """
    try:
        content = json.loads(read_bytes(path).decode("utf-8-sig"))
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise DataFileError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except UnicodeEncodeError as error:
        raise DataFileError(f"{path}: a text has a lone surrogate, {error.object[error.start]!r}") from None
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"{path}: not JSON: {error}") from None
    return content
