"""Shared types, money, ledger, legal gate, database: what every room stands on."""
