"""One module per third party. Only jobs import them: `api.py` answers without asking anybody."""
