"""Shipping over HTTP. Every operation is a few queries; all that takes longer or asks a carrier is a job."""

from services.shipping.api import addresses, connections, labels, orders, rates, tracking, webhooks
from services.shipping.api.base import api

__all__ = ["addresses", "api", "connections", "labels", "orders", "rates", "tracking", "webhooks"]
