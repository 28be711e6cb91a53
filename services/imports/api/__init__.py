"""Imports over HTTP. Every operation is a few queries; reading files, and fetching anything, is a job."""

from services.imports.api import catalog, erp, imports, uploads
from services.imports.api.base import api

__all__ = ["api", "catalog", "erp", "imports", "uploads"]
