"""Backroom as a program: settings, service definitions, the command line, health, embedded mode."""
