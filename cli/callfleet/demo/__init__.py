"""`callfleet demo`: everything up, one campaign called within its budget, a summary, everything down."""
