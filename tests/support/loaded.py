"""What a run needs, imported and loaded: processes that are forked after this module start in milliseconds."""

import json
import os
from pathlib import Path

from simenv import plugins  # noqa: F401
from simenv.cli import main  # noqa: F401
from simenv.encoder import default_encoder
from simenv.runs import bench, compare, tables  # noqa: F401
from tests.support.processes import TEXTS

default_encoder().encode(json.loads(Path(os.environ[TEXTS]).read_text("utf-8")) if TEXTS in os.environ else [])
