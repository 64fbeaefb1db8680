"""The report's page, its pictures and its table."""
