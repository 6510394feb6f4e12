"""A Twilio-compatible carrier with people who answer, talk or don't pick up."""
