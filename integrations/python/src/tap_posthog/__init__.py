"""tap-posthog and target-parquet, installed as programs. This module says where they are."""

import os
import sysconfig

__all__ = ["program"]


def program(name="tap-posthog"):
    """The path of `tap-posthog` or `target-parquet`, as this package brought it."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folders = [
        sysconfig.get_path("scripts"),
        sysconfig.get_path("scripts", scheme=sysconfig.get_preferred_scheme("user")) if hasattr(sysconfig, "get_preferred_scheme") else None,
        os.path.join(here, "bin"),  # pip install --target
    ]
    for folder in filter(None, folders):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            return path
    raise FileNotFoundError(f"{name} is not in {', '.join(filter(None, folders))}: was the package tap-posthog installed by pip or uv?")
