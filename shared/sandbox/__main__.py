"""`python -m shared.sandbox`"""

from .cli import sandbox

if __name__ == "__main__":
    sandbox()
