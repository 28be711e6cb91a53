"""Imports: files and feeds of other systems into samples, customers, members and orders."""
