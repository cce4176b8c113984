"""pycortex at arm's length: it runs in a process of its own, with a home and a configuration of its own.

pycortex is configured globally when it is imported, writes into the user's home and shares caches without locks;
here none of that can happen, and nothing of it is imported into the caller's process.
"""

from latentcortex._pycortex.view import SCALE, VIEW, View, page, require

__all__ = ["SCALE", "VIEW", "View", "page", "require"]
