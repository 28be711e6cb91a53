"""Imports over HTTP. Every operation is a few queries; reading files, and fetching anything, is a job."""

from services.imports.api import catalog, imports, uploads
from services.imports.api.base import api

__all__ = ["api", "catalog", "imports", "uploads"]
