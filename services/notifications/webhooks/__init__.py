"""Webhooks to tenants' own systems: what can be subscribed to, endpoints with their secrets, what is to be sent."""
