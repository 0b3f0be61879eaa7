"""Verdict pages, feeds and exports: pure functions of the database."""
