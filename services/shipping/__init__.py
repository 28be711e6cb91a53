"""Shipping: orders, addresses, rates, labels, tracking. Shippo is its third party."""
