"""Device enumeration and the state machine that both ends of a device share."""
