"""The Gradio app over the public API; installed as `mmtune.demos`.

What the framework reads from the environment when it is imported is set here, before any file of this room imports it.
"""

import os
import secrets
import tempfile
from pathlib import Path

HOME = Path(tempfile.gettempdir()) / f"mmtune-demo-{secrets.token_hex(8)}"
"""The folder of what a server shows and what visitors send; made when one is started, removed when the process ends."""

FILES = HOME / "files"
"""The part of it that the framework serves from and keeps uploads in."""

os.environ["GRADIO_TEMP_DIR"] = str(FILES)
# Nothing is sent to anybody.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
