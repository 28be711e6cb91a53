"""Mails, notices, alerts, watches, and webhooks to tenants' own systems."""
