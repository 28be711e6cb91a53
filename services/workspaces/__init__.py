"""Tenants, members, sign-in, and the life of a subscription."""
