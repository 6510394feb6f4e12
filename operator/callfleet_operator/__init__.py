"""The kopf operator: campaigns into call sessions, within their budgets."""
