"""`callfleet database`: what an administrator does to CallFleet's PostgreSQL."""
